"""``m3gal finetune``."""

from __future__ import annotations

from m3gal_cli.cli import options as o
from m3gal_cli.cli import training as t

PROFILE = "geotes.yaml"


def command(
    config: o.ConfigName = None,
    set_: o.Sets = None,
    epochs: t.Epochs = None,
    lr: t.Lr = None,
    gc_lr: t.GcLr = None,
    batch_size: t.BatchSize = None,
    momentum: t.MomentumOption = None,
    schedule: t.Schedule = None,
    loss: t.Loss = None,
    precision: t.Precision = None,
    max_steps: t.MaxSteps = None,
    moco_m: t.MocoM = None,
    moco_gc_m: t.MocoGcM = None,
    moco_k: t.MocoK = None,
    moco_t: t.MocoT = None,
    m_inc: t.MInc = None,
    text_encoder: o.TextEncoder = None,
    data_dir: o.DataDir = None,
    data_suffix: o.DataSuffix = None,
    test_data_suffix: o.TestDataSuffix = None,
    datum: o.DatumName = None,
    print_freq: t.PrintFreq = None,
    output_name: t.OutputName = None,
    runs_dir: o.RunsDir = None,
    resume: t.Resume = None,
    init: t.Init = None,
    seed: o.Seed = None,
    gpu: o.Gpu = None,
    device: o.Device = None,
    bert_from_local: o.BertFromLocal = False,
) -> None:
    """Finetune on queries with candidates: query, key and location encoders learn the order.

    Without --config the profile is geotes.yaml (the published settings). Prints the run's path on stdout.
    """
    t.train("finetune", PROFILE, locals())
