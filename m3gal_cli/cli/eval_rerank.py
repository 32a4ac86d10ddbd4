"""``m3gal eval-rerank``."""

from __future__ import annotations

from m3gal_cli.cli import evaluation as e
from m3gal_cli.cli import options as o


def command(
    checkpoint: o.CheckpointPath = None,
    test_dataset_filepath: o.TestPath = None,
    data_dir: o.DataDir = None,
    data_suffix: o.DataSuffix = None,
    test_data_suffix: o.TestDataSuffix = None,
    datum: o.DatumName = None,
    config: o.ConfigName = None,
    set_: o.Sets = None,
    text_encoder: o.TextEncoder = None,
    bm25: o.Bm25 = None,
    reranker: o.LinearReranker = None,
    as_json: o.AsJson = False,
    fail_under: o.FailUnder = None,
    runs_dir: o.RunsDir = None,
    seed: o.Seed = None,
    gpu: o.Gpu = None,
    device: o.Device = None,
    bert_from_local: o.BertFromLocal = False,
    moco_k: o.IgnoredInt = None,
    load_model: o.Ignored = False,
) -> None:
    """Order the candidates of each query, by text, by location and by both.

    Without options: the newest run's best checkpoint and that run's data.
    """
    checks = e.parse_checks(fail_under)
    session = e.open_session(locals())
    from m3gal_cli.evaluation.rerank import evaluate_rerank

    settings = session.config
    records, path = e.records_for(settings)
    widest = max(len(r.passages) for r in records)
    e.check_known(checks, widest, e.kinds_of(session))
    evaluation = evaluate_rerank(
        records,
        session.encoder,
        settings.data.max_chars,
        bm25=settings.eval.bm25,
        seed=settings.seed,
        reranker=session.weights,
    )
    title = f"rerank: {len(records):,} queries of {path.name}, {evaluation.n_candidates} candidates each"
    e.report(evaluation, session, title, as_json, checks)
