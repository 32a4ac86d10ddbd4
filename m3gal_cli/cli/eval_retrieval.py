"""``m3gal eval-retrieval``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m3gal_cli.cli import evaluation as e
from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import note, progress_bar
from m3gal_cli.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from m3gal_cli.data.records import Record
    from m3gal_cli.evaluation.result import Evaluation
    from m3gal_cli.evaluation.retrieval import Stages

FILES = "Files for other tools"
LARGE_FOR_BM25 = 500_000  # rows
RUN_SCORES = ("fused", "reranked")
UNITS = {"encoding POIs": "texts", "counting": "POIs", "BM25": "queries", "reranked": "queries"}

RunFile = Annotated[
    Path | None, typer.Option(help="TREC run of the best matches of each query.", rich_help_panel=FILES)
]
RunScore = Annotated[
    str, typer.Option(metavar="KIND", help="Score that orders it: fused or hybrid.", rich_help_panel=FILES)
]
RunDepth = Annotated[int, typer.Option(min=1, help="Matches a query in it.", rich_help_panel=FILES)]
QrelsFile = Annotated[Path | None, typer.Option(help="TREC qrels: the gold of each query.", rich_help_panel=FILES)]
TextDir = Annotated[
    Path | None,
    typer.Option(
        help="Keep vectors of POI texts there, for the next time (default: in memory up to 1 GiB, else in the run)."
    ),
]


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
    reranker: o.LinearReranker = None,
    as_json: o.AsJson = False,
    fail_under: o.FailUnder = None,
    run_file: RunFile = None,
    run_depth: RunDepth = 100,
    run_score: RunScore = "fused",
    qrels_file: QrelsFile = None,
    text_dir: TextDir = None,
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
    if run_score not in RUN_SCORES:
        raise InputError(f"--run-score {run_score!r} is none", hint=f"Scores: {', '.join(RUN_SCORES)}.")
    _check_files(run_file, qrels_file)
    session = e.open_session(locals())
    if run_score == "reranked" and session.weights is None:
        hint = "Take one that was finetuned with validation records, without --no-hybrid; or --run-score fused."
        raise InputError("--run-score hybrid: this run has no hybrid score", where=session.checkpoint, hint=hint)
    from m3gal_cli.data.tables import read_pois
    from m3gal_cli.encoders.embedding_cache import BUDGET, EmbeddingCache
    from m3gal_cli.evaluation.retrieval import Options, evaluate_retrieval

    settings = session.config
    records, path = e.records_for(settings)
    pois = read_pois(session.poi_table, settings.data.datum)
    e.check_known(checks, len(pois), e.kinds_of(session))
    if settings.eval.bm25 and len(pois) > LARGE_FOR_BM25:
        note(f"BM25 over {len(pois):,} rows takes long and some 3 KB a row; --no-bm25 leaves it out")
    budget = BUDGET if text_dir is None else 0
    texts = EmbeddingCache(text_dir or session.texts_folder, session.text_fingerprint(), budget, note)
    depth = run_depth if run_file is not None else 0
    with _stages() as stages:
        asked = Options(settings.eval.bm25, settings.seed, depth, texts, session.weights, run_score)
        evaluation = evaluate_retrieval(records, pois, session.encoder, asked, stages)
    _write(evaluation, records, pois, run_file, qrels_file)
    title = f"retrieval: {len(records):,} queries of {path.name} among {len(pois):,} POIs"
    e.report(evaluation, session, title, as_json, checks)


def _check_files(run_file: Path | None, qrels_file: Path | None) -> None:
    """Refuse before the work what could not be written after it. Raises InputError."""
    from m3gal_cli.files import probe_folder

    for path in (run_file, qrels_file):
        if path is not None and path.is_dir():
            raise InputError("is a folder, not a file to write", where=path, hint="Give the name of a file.")
        if path is not None:
            probe_folder(path.parent)
    if run_file is not None and qrels_file is not None and run_file.resolve() == qrels_file.resolve():
        raise InputError(
            "--run-file and --qrels-file are one file", where=run_file, hint="Give each a name of its own."
        )


def _write(
    evaluation: Evaluation, records: list[Record], pois: pd.DataFrame, run_file: Path | None, qrels_file: Path | None
) -> None:
    from m3gal_cli.evaluation.trec import document_ids, query_ids, write_qrels, write_run

    if evaluation.found is None or (run_file is None and qrels_file is None):
        return
    queries, documents = query_ids(records), document_ids(pois["poi_id"])
    if run_file is not None:
        write_run(run_file, evaluation.found, queries, documents)
    if qrels_file is not None:
        write_qrels(qrels_file, evaluation.found, queries, documents)


@contextmanager
def _stages() -> Iterator[Stages]:
    """A bar a stage, with what is done a second."""
    with progress_bar() as bar:
        tasks = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, info="")
            bar.update(tasks[stage], completed=done, total=total)
            speed = bar.tasks[tasks[stage]].speed
            if speed:
                bar.update(tasks[stage], info=f"{speed:,.0f} {UNITS[stage]}/s")

        yield tell
