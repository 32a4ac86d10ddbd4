"""Options that several commands share, and which setting each of them sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3gal_cli.cli.console import note

if TYPE_CHECKING:
    from m3gal_cli.config.schema import Config

TRAINING, DATA, RUN, OLD = "Training", "Data", "Run", "Published switches without effect"

ConfigName = Annotated[
    str | None, typer.Option("--config", "-c", help="Profile: a YAML file, or a packaged one by name.")
]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. optim.lr=0.1.")]
TextEncoder = Annotated[
    str | None, typer.Option(help="transformers directory or hub name; 'scratch': small, untrained, own vocabulary.")
]
Seed = Annotated[int | None, typer.Option(help="Of weights, order, sampling and bootstrap.")]
Gpu = Annotated[int | None, typer.Option(help="Number of the GPU; without one here, the CPU does it.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
RunsDir = Annotated[str | None, typer.Option(help="Folder of the runs.")]
DataSuffix = Annotated[
    str | None, typer.Option(help="Views are same_poi_views_SUFFIX.csv.", rich_help_panel=DATA, show_default=False)
]
TestDataSuffix = Annotated[
    str | None, typer.Option(help="Sets are {val,test}_dataset_use_gis_SUFFIX.", rich_help_panel=DATA)
]
DataDir = Annotated[str | None, typer.Option(help="Folder with the published file names.", rich_help_panel=DATA)]
DatumName = Annotated[str | None, typer.Option("--datum", help="Datum of the input: wgs84, gcj02 or bd09.")]
CheckpointPath = Annotated[
    Path | None,
    typer.Option(help="Run, checkpoint directory or published .pth.tar file (default: the newest run's best)."),
]
PoiPath = Annotated[Path | None, typer.Option(help="POI table: address, lng, lat.", rich_help_panel=DATA)]
TestPath = Annotated[Path | None, typer.Option(help="Candidate records.", rich_help_panel=DATA)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout instead of tables.")]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=VALUE", help="Exit 1 below it, e.g. recall@1=0.5 (of fused) or text.mrr@5=0.4."),
]
Bm25 = Annotated[bool | None, typer.Option("--bm25/--no-bm25", help="Add a BM25 row for honesty.")]
LinearReranker = Annotated[
    bool | None,
    typer.Option("--hybrid/--no-hybrid", help="Score the best 1000 again by words, neighbours and the typed place."),
]
BertFromLocal = Annotated[bool, typer.Option("--bert-from-local", hidden=True)]
Ignored = Annotated[bool, typer.Option(hidden=True)]
IgnoredInt = Annotated[int | None, typer.Option(hidden=True)]

# option -> setting; the published names of the settings
SETTING_OF = {
    "epochs": "optim.epochs",
    "lr": "optim.lr",
    "gc_lr": "optim.location_lr",
    "batch_size": "optim.batch_size",
    "momentum": "optim.momentum",
    "schedule": "optim.schedule",
    "loss": "optim.loss",
    "precision": "optim.precision",
    "accumulate": "optim.accumulate",
    "members": "optim.soup_size",
    "encode_chunk": "optim.encode_chunk",
    "max_steps": "optim.max_steps",
    "moco_m": "momentum.m",
    "moco_gc_m": "momentum.m_location",
    "moco_k": "momentum.queue_size",
    "moco_t": "momentum.temperature",
    "m_inc": "momentum.m_location_increment",
    "print_freq": "run.print_freq",
    "save_every": "run.save_every",
    "keep": "run.keep",
    "output_name": "run.name",
    "runs_dir": "run.dir",
    "data_dir": "data.dir",
    "data_suffix": "data.suffix",
    "test_data_suffix": "data.test_suffix",
    "datum": "data.datum",
    "views": "data.views",
    "poi_database_filepath": "data.poi",
    "test_dataset_filepath": "data.test",
    "text_encoder": "model.text_encoder",
    "seed": "seed",
    "device": "device",
    "bm25": "eval.bm25",
    "reranked": "eval.rerank",
    "top_k": "eval.top_k",
    "index": "eval.index",
    "index_dir": "eval.index_dir",
    "uri": "eval.uri",
    "recall": "eval.recall",
    "encoder_runtime": "eval.encoder_runtime",
}


def overrides(values: dict[str, Any]) -> dict[str, Any]:
    """Settings from a command's arguments; what is None was not given."""
    found = {}
    for option, setting in SETTING_OF.items():
        value = values.get(option)
        if value is not None and value != []:
            found[setting] = str(value) if isinstance(value, Path) else value
    return found


def on_gpu(config: Config, gpu: int | None) -> Config:
    """Take the GPU of this number, as --gpu asks; where there is none, say so and use what there is."""
    if gpu is None:
        return config
    import torch

    if torch.cuda.is_available() and gpu < torch.cuda.device_count():
        return config.model_copy(update={"device": f"cuda:{gpu}"})
    note(f"--gpu {gpu}: no such CUDA device here, using {'the CPU' if not torch.cuda.is_available() else 'auto'}")
    return config.model_copy(update={"device": "auto"})


def quiet_libraries() -> None:
    """Keep the libraries' own talk and bars off the terminal: ours say it once.

    transformers is told when it is loaded (see core.text), not loaded to be told.
    """
    import os
    import sys
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    warnings.filterwarnings("ignore", message="Detected pickle protocol")
