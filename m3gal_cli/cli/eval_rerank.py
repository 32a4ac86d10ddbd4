"""``m3gal eval-rerank``."""

from __future__ import annotations

from typing import Any

from m3gal_cli.cli import evaluation as e
from m3gal_cli.cli import options as o
from m3gal_cli.cli.options import with_options


@with_options(o.POIS, o.COLUMNS, o.SKIP_BAD, *e.EVALUATION_OPTIONS, other_names=True)
def command(values: dict[str, Any]) -> None:
    """Rank the candidates of each query by text, location, fused, sparse and reranked scores.

    By default, evaluate the best checkpoint of the newest run on the data of this run.
    """
    checks = e.parse_checks(values["fail_under"])
    e.check_sources(values)
    session = e.open_session(values)
    from m3gal_cli.data.label_records import NEGATIVES
    from m3gal_cli.evaluation.rerank import evaluate_rerank, require_negatives

    settings = session.config
    data = e.evaluation_data(session, NEGATIVES)
    records = data.records
    require_negatives(records)
    e.check_known(checks, max(len(r.passages) for r in records), e.score_kinds(session))
    evaluation = evaluate_rerank(
        records,
        session.encoder,
        settings.data.max_chars,
        sparse=settings.eval.sparse,
        seed=settings.seed,
        reranker=session.weights,
        training_records=session.training_records(),
    )
    title = f"rerank: {len(records):,} queries of {data.path.name}, {evaluation.n_candidates} candidates each"
    e.report(evaluation, session, title, values["json"], checks)
