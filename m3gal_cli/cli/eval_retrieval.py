"""``m3gal eval-retrieval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3gal_cli.cli import evaluation as e
from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import note
from m3gal_cli.cli.options import option, switch, with_options
from m3gal_cli.cli.progress import stage_progress
from m3gal_cli.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from m3gal_cli.data.records import Record
    from m3gal_cli.evaluation.result import Evaluation
    from m3gal_cli.evaluation.retrieval import RetrievalOptions
    from m3gal_cli.matching.session import Session

FILES = "Files for other tools"
RUN_SCORES = ("fused", "reranked")

OPTIONS = (
    o.POIS,
    o.COLUMNS,
    o.SKIP_BAD,
    option("--run-file", Path, "Write the best matches of each query as a TREC run.", FILES),
    option("--run-depth", int, "Matches per query in the TREC run.", FILES, default=100, min=1),
    option("--run-score", str, "Score of the TREC run: fused or reranked.", FILES, default="fused", metavar="SCORE"),
    option("--qrels-file", Path, "Write the gold POIs of each query as TREC qrels.", FILES),
    switch("--perturb", "Also evaluate the queries with typing errors and in other spellings."),
    option(
        "--errors",
        list[Path],
        "Write the queries whose gold is not first: FILE.html is a page with maps, FILE.jsonl one object per query. "
        "The option may be given twice.",
        FILES,
        metavar="FILE",
    ),
    option(
        "--text-dir",
        Path,
        "Folder in which the vectors of POI texts are cached (default: in memory up to 1 GiB, else in the run).",
    ),
)


@with_options(*OPTIONS, *e.EVALUATION_OPTIONS, other_names=True)
def command(values: dict[str, Any]) -> None:
    """Rank all POIs of a table for each query by text, location, fused, sparse and reranked scores.

    By default, evaluate the best checkpoint of the newest run on the data of this run.
    """
    checks = e.parse_checks(values["fail_under"])
    e.check_sources(values)
    run_file, qrels_file, run_score = values["run_file"], values["qrels_file"], values["run_score"]
    order = e.EARLIER_KINDS.get(run_score, run_score)
    if order not in RUN_SCORES:
        raise InputError(f"--run-score: unknown score {run_score!r}", hint=f"Scores: {', '.join(RUN_SCORES)}.")
    errors: list[Path] = values["errors"] or []
    _check_files([("--run-file", run_file), ("--qrels-file", qrels_file), *(("--errors", path) for path in errors)])
    session = e.open_session(values)
    if order == "reranked" and session.weights is None:
        hint = "Omit --no-rerank, and give a checkpoint that has a reranker; or --run-score fused."
        raise InputError("--run-score reranked: there is no reranker", where=session.checkpoint, hint=hint)
    from m3gal_cli.evaluation.error_report import write_misses
    from m3gal_cli.evaluation.retrieval import evaluate_retrieval
    from m3gal_cli.poi_source import poi_options, read_pois

    _ = session.device  # a wrong device is refused before the table is read
    data = e.evaluation_data(session)
    records, table = data.records, data.pois
    if table is None:
        table = read_pois(session.poi_table, poi_options(session.config.data, session.poi_table), note)
    e.check_known(checks, len(table), e.score_kinds(session))
    options = _options(session, values, 0 if run_file is None else values["run_depth"], order)
    with stage_progress() as progress:
        evaluation = evaluate_retrieval(records, table, session.encoder, options, progress)
    _write_files(evaluation, records, table, run_file, qrels_file)
    for path in errors:
        write_misses(evaluation, path, f"Misses of {session.checkpoint} on {data.path.name}")
    title = f"retrieval: {len(records):,} queries of {data.path.name} among {len(table):,} POIs"
    e.report(evaluation, session, title, values["json"], checks)


def _options(session: Session, values: dict[str, Any], depth: int, order: str) -> RetrievalOptions:
    from m3gal_cli.encoders.embedding_cache import MEMORY_BUDGET, EmbeddingCache
    from m3gal_cli.evaluation.retrieval import RetrievalOptions

    text_dir: Path | None = values["text_dir"]
    budget = MEMORY_BUDGET if text_dir is None else 0
    return RetrievalOptions(
        sparse=session.config.eval.sparse,
        seed=session.config.seed,
        depth=depth,
        texts=EmbeddingCache(text_dir or session.texts_folder, session.text_fingerprint(), budget, note),
        reranker=session.weights,
        order=order,
        training_records=session.training_records(),
        calibration=True,
        perturb=values["perturb"],
        misses=bool(values["errors"]),
    )


def _check_files(files: list[tuple[str, Path | None]]) -> None:
    """Refuse output files that cannot be written, before the evaluation starts.

    Args:
        files: Options and their files; None: the option is absent.

    Raises:
        InputError: A file is a folder, cannot be written, is given twice, or has a suffix of another format.
    """
    from m3gal_cli.evaluation.error_report import SUFFIXES
    from m3gal_cli.files import probe_folder, suffix_of

    taken: dict[Path, str] = {}
    for name, path in files:
        if path is None:
            continue
        if path.is_dir():
            raise InputError("is a folder, not a file", where=path, hint="Give the name of a file.")
        if name == "--errors" and suffix_of(path) not in SUFFIXES:
            raise InputError("--errors: unknown format", where=path, hint=f"Suffixes: {', '.join(SUFFIXES)}.")
        if path.resolve() in taken:
            both = f"{taken[path.resolve()]} and {name} are the same file"
            raise InputError(both, where=path, hint="Give two names.")
        taken[path.resolve()] = name
        probe_folder(path.parent)


def _write_files(
    evaluation: Evaluation, records: list[Record], pois: pd.DataFrame, run_file: Path | None, qrels_file: Path | None
) -> None:
    from m3gal_cli.evaluation.trec import document_ids, query_ids, write_qrels, write_run

    if evaluation.top is None or (run_file is None and qrels_file is None):
        return
    queries, documents = query_ids(records), document_ids(pois["poi_id"])
    if run_file is not None:
        write_run(run_file, evaluation.top, queries, documents)
    if qrels_file is not None:
        write_qrels(qrels_file, evaluation.top, queries, documents)
