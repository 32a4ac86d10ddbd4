"""Steps that ``eval-rerank``, ``eval-retrieval`` and ``predict`` share: open the checkpoint, check, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import error, metrics_table, note, out, print_json
from m3gal_cli.cli.exit_codes import CHECK_FAILED
from m3gal_cli.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from m3gal_cli.data.records import Record
    from m3gal_cli.evaluation.calibration import Calibration
    from m3gal_cli.evaluation.result import Evaluation
    from m3gal_cli.matching.session import Session

SCORE_KINDS = ("text", "location", "fused", "sparse", "reranked")
EARLIER_KINDS = {"hybrid": "reranked", "bm25": "sparse"}
EVALUATION_OPTIONS = (
    o.CHECKPOINT,
    o.option("--test", Path, "Candidate records to evaluate on.", o.DATA),
    o.LABELS,
    o.DATA_DIR,
    o.DATA_SUFFIX,
    o.TEST_DATA_SUFFIX,
    o.DATUM,
    o.CONFIG,
    o.SETS,
    o.TEXT_ENCODER,
    o.option("--sparse/--no-sparse", bool, "Also evaluate the sparse score, a baseline without training."),
    o.RERANK,
    o.AS_JSON,
    o.option(
        "--fail-under",
        list[str],
        "Exit with code 1 if a metric is lower: recall@1=0.5 (fused score) or reranked.mrr@5=0.4.",
        metavar="METRIC=VALUE",
    ),
    o.RUNS_DIR,
    o.SEED,
    o.DEVICE,
    o.GPU,
)


def open_session(values: dict[str, Any], load: bool = True) -> Session:
    """Return the session for the options of a command. Raises InputError.

    With ``load``, the whole model is loaded now, so that an unreadable checkpoint is reported before data are read.
    """
    from m3gal_cli.matching import session

    o.quiet_libraries()
    opened = session.open_session(
        values["checkpoint"], o.overrides(values), values.get("set") or (), values.get("config"), note
    )
    opened.config = o.on_gpu(opened.config, values.get("gpu"))
    if load:
        _ = opened.encoder
    return opened


def check_sources(values: dict[str, Any]) -> None:
    """Raise InputError if options name two sources of queries."""
    if values["labels"] is not None and values["test"] is not None:
        raise InputError("--labels and --test exclude each other", hint="Give one of them.")


@dataclass(frozen=True)
class EvaluationData:
    """Records to evaluate on, their file, and the POI table that was read for them, if any."""

    records: list[Record]
    path: Path
    pois: pd.DataFrame | None = None


def evaluation_data(session: Session, negatives: int = 0) -> EvaluationData:
    """Return the records to evaluate on: those of the labels, else of the test file, else of the validation file.

    Args:
        session: The session.
        negatives: Negatives per record that is made from labels.

    Raises:
        InputError: There are none.
    """
    from m3gal_cli.config.paths import find_records
    from m3gal_cli.data.records import read_records

    config = session.config
    if config.data.labels is not None:
        return _unseen_labels(session, negatives)
    path = find_records(config.data, "test") or find_records(config.data, "val")
    if path is None:
        hint = "Give --test FILE or --labels FILE, or --data-dir with the folder that holds test_dataset*.jsonl."
        raise InputError("no records to evaluate on", where=config.data.dir, hint=hint)
    return EvaluationData(read_records(path, config.data.datum), path)


def _unseen_labels(session: Session, negatives: int) -> EvaluationData:
    """Return the labelled queries that the run has not seen: no training or validation query of the same text.

    Raises:
        InputError: Bad labels, or the run has seen all queries.
    """
    from m3gal_cli.data.label_records import LabelOptions
    from m3gal_cli.data.labels import text_key
    from m3gal_cli.label_source import labelled_records

    made = labelled_records(session.config.data, LabelOptions(negatives), session.table_given, note)
    source = made.labels.source
    records = [record for rows in made.records.values() for record in rows]
    seen = {text_key(r.query) for split in ("train", "val") for r in session.training_records(split)}
    unseen = [record for record in records if text_key(record.query) not in seen]
    if not unseen:
        hint = "Evaluate another checkpoint, or give labels of other queries."
        raise InputError("all queries are training or validation queries of this run", where=source, hint=hint)
    if len(unseen) < len(records):
        count = f"{len(records) - len(unseen):,} of {len(records):,} queries"
        note(f"{source.name}: {count} are training or validation queries of this run, and left out")
    return EvaluationData(unseen, source, made.pois)


def parse_checks(texts: list[str] | None) -> list[tuple[str, str, float]]:
    """Return the checks of --fail-under as (score, metric, value); the default score is fused. Raises InputError."""
    checks: list[tuple[str, str, float]] = []
    for text in texts or ():
        name, equals, number = text.partition("=")
        kind, dot, metric = name.strip().rpartition(".")
        try:
            value = float(number)
        except ValueError:
            equals = ""
        if not equals or not metric:
            hint = "Write METRIC=VALUE, e.g. recall@1=0.5 or text.mrr@5=0.4."
            raise InputError(f"--fail-under {text!r} is not a check", hint=hint)
        checks.append((EARLIER_KINDS.get(kind, kind) if dot else "fused", metric, value))
    check_known(checks)
    return checks


def score_kinds(session: Session) -> list[str]:
    """Return the kinds of score that the evaluations of a session have."""
    absent = {"sparse": not session.config.eval.sparse, "reranked": session.weights is None}
    return [kind for kind in SCORE_KINDS if not absent.get(kind)]


def check_known(
    checks: list[tuple[str, str, float]], candidates: int | None = None, kinds: Sequence[str] = SCORE_KINDS
) -> None:
    """Refuse checks of other kinds of score, and of recall@k with k above ``candidates``. Raises InputError."""
    from m3gal_cli.evaluation.metrics import metric_names

    names = metric_names(candidates)
    for kind, metric, _ in checks:
        if kind not in kinds or metric not in names:
            hint = f"Scores: {', '.join(kinds)}; metrics: {', '.join(names)}."
            missing = f"score {kind!r}" if kind not in kinds else f"metric {metric!r}"
            raise InputError(f"--fail-under: this evaluation has no {missing}", hint=hint)


def _print_calibration(calibration: Calibration) -> None:
    """Print the figures of a calibration, and its reliability diagram as a table of the bins that have answers."""
    figures = {"ECE": calibration.ece, "ROC AUC": calibration.auc, "answered at 95% precision": calibration.answered}
    figures["threshold"] = calibration.threshold
    out().print(metrics_table("calibration of the first answer", {"reranked": figures}))
    bins = {
        f"{one.low:.1f} to {one.high:.1f}": {"n_queries": one.count, "mean": one.confidence, "share right": one.right}
        for one in calibration.bins
        if one.count
    }
    out().print(metrics_table("reliability of the first answer", bins, row_header="probability"))


def report(
    evaluation: Evaluation, session: Session, title: str, as_json: bool, checks: list[tuple[str, str, float]]
) -> None:
    """Print the evaluation; exit with code 1 if a check fails."""
    if as_json:
        print_json(evaluation.to_json(str(session.checkpoint)))
    else:
        out().print(metrics_table(title, evaluation.metrics, evaluation.intervals))
        for kind, slices in (("fused", evaluation.slices), ("reranked", evaluation.reranked_slices)):
            if any(row["n_queries"] < evaluation.n_queries for row in slices.values()):
                out().print(metrics_table(f"{kind} score by query location", slices, row_header="query location"))
        if evaluation.candidates:
            shares = ", ".join(f"{name} {share:.3f}" for name, share in evaluation.candidates.items())
            out().print(f"share of queries with a gold POI among the candidates: {shares}")
        if evaluation.calibration is not None:
            _print_calibration(evaluation.calibration)
        if evaluation.robustness is not None:
            kind = "fused" if "reranked" not in evaluation.metrics else "reranked"
            out().print(metrics_table(f"{kind} score of changed queries", evaluation.robustness, row_header="change"))
    for line in evaluation.notes:
        note(line)
    failed = [(k, m, v) for k, m, v in checks if evaluation.metrics[k][m] < v]
    for kind, metric, value in failed:
        error(f"{kind} {metric} is {evaluation.metrics[kind][metric]:.4f}, under {value:g}")
    if failed:
        raise typer.Exit(CHECK_FAILED)
