"""``m3gal eval-retrieval``."""

from __future__ import annotations

from m3gal_cli.cli import evaluating as e
from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import progress_bar


def command(
    checkpoint: o.CheckpointPath = None,
    poi_database_filepath: o.PoiPath = None,
    test_dataset_filepath: o.TestPath = None,
    data_dir: o.DataDir = None,
    data_suffix: o.DataSuffix = None,
    test_data_suffix: o.TestDataSuffix = None,
    datum: o.DatumName = None,
    config: o.ConfigName = None,
    set_: o.Sets = None,
    text_encoder: o.TextEncoder = None,
    bm25: o.Bm25 = None,
    as_json: o.AsJson = False,
    fail_under: o.FailUnder = None,
    runs_dir: o.RunsDir = None,
    seed: o.Seed = None,
    gpu: o.Gpu = None,
    device: o.Device = None,
    bert_from_local: o.BertFromLocal = False,
    moco_k: o.IgnoredInt = None,
    compute_ranks: o.Ignored = False,
    load_model: o.Ignored = False,
) -> None:
    """Find each query's place among all POIs of a table, by text, by location and by both.

    Without options: the newest run's best checkpoint and that run's data.
    """
    checks = e.parse_checks(fail_under)
    session = e.open_session(locals())
    from m3gal_cli.data.tables import read_pois
    from m3gal_cli.evaluation.retrieval import evaluate_retrieval

    settings = session.config
    records, path = e.records_for(settings)
    pois = read_pois(e.poi_table_for(settings), settings.data.datum)
    with progress_bar() as bar:
        task = bar.add_task("encoding POIs", total=None, info="")
        evaluation = evaluate_retrieval(
            records,
            pois,
            session.embedder,
            bm25=settings.eval.bm25,
            seed=settings.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    title = f"retrieval: {len(records):,} queries of {path.name} among {len(pois):,} POIs"
    e.report(evaluation, session, title, as_json, checks)
