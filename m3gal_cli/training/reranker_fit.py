"""Fit the reranker on queries that the encoders were not trained on; the optimisation is in m3gal_cli/rerank/fit.py.

Before a finetuning, weights are fitted on the training queries. After the training, weights near these (the prior) are
fitted on the validation queries, which are often few. With too few of them, the prior itself is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np
import pandas as pd

from m3gal_cli.config.paths import find_pois
from m3gal_cli.config.schema import DataConfig
from m3gal_cli.core.checkpoint import CARD_FILE, Checkpoint
from m3gal_cli.core.devices import choose_attention, resolve_precision
from m3gal_cli.core.model_card import with_metrics
from m3gal_cli.data.duplicates import first_by_key, place_key
from m3gal_cli.data.records import Record
from m3gal_cli.encoders.model_loading import open_checkpoint
from m3gal_cli.encoders.protocol import Progress
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.rerank import evaluate_rerank
from m3gal_cli.files import atomic_text
from m3gal_cli.index.sparse_table import SparseTable
from m3gal_cli.matching.candidate_table import CandidateTable, query_of
from m3gal_cli.matching.candidates import table_candidates
from m3gal_cli.poi_source import poi_options, read_pois
from m3gal_cli.rerank.features import FeatureExtractor
from m3gal_cli.rerank.fit import Example, fit
from m3gal_cli.rerank.weights import BEFORE_TRAINING_FILE, RerankerWeights
from m3gal_cli.text.document_frequencies import DocumentFrequencies
from m3gal_cli.training.report import update_report
from m3gal_cli.training.run_directory import RERANKER_ROW, RunDirectory
from m3gal_cli.training.trainer import Trainer

OpenProgress = Callable[[str], AbstractContextManager[Progress]]  # opens a progress display with this title
POOL_SIZE = 20_000  # POIs among which candidates are searched, besides the gold POIs
MIN_QUERIES = 20  # with fewer examples no weights are fitted
MAX_QUERIES = 1000


def fit_reranker(trainer: Trainer, records: Sequence[Record], progress: OpenProgress) -> None:
    """Fit the reranker of the best checkpoint on the validation records and save its weights there.

    With fewer than ``MIN_QUERIES`` examples, the weights of ``save_prior`` are saved there instead, if there are any.
    The reranked metrics of the validation records go into metrics.jsonl, the report and the model card. With
    ``eval.rerank: false``, nothing happens. An InputError (bad data, full disk) becomes a warning, because the run is
    complete without a reranker.
    """
    run, config, listener = trainer.run, trainer.config, trainer.listener
    if not config.eval.rerank:
        return
    try:
        prior = RerankerWeights.load(run.path, BEFORE_TRAINING_FILE)
        if not records and prior is None:
            return
        checkpoint, encoder = _best_encoder(trainer)
        with progress("fitting the reranker") as report_progress:
            weights = fit_weights(records, read_poi_table(config.data), encoder, config.seed, report_progress, prior)
        few = f"fewer than {MIN_QUERIES} validation queries have a gold candidate"
        if weights is not None:
            listener.message(_summary(weights))
        elif prior is not None:
            weights = prior
            listener.message(
                f"{few}: the reranker keeps the weights from before the training ({prior.queries:,} queries)"
            )
        else:
            listener.message(f"no reranker: {few}")
            return
        weights.save(run.best.resolve())
        if records:
            _log_metrics(trainer, checkpoint, encoder, weights, records)
            update_report(run.path, listener)
    except InputError as error:
        text = " ".join(error.render().splitlines())
        listener.warning({"kind": "warning", "text": f"the reranker is not fitted: {text}"})


def _best_encoder(trainer: Trainer) -> tuple[Checkpoint, TorchEncoder]:
    """Open the best checkpoint of the run for inference. Raises InputError."""
    config, device = trainer.config, trainer.accelerator.device
    checkpoint = open_checkpoint(trainer.run.best, config)
    choose_attention(checkpoint.model, device, resolve_precision(config.eval.precision, device))
    return checkpoint, TorchEncoder(checkpoint, device, config.eval.batch_tokens, config.eval.precision)


def _log_metrics(
    trainer: Trainer,
    checkpoint: Checkpoint,
    encoder: TorchEncoder,
    weights: RerankerWeights,
    records: Sequence[Record],
) -> None:
    """Evaluate the weights on the validation records; log the metrics and write them into the model card."""
    run, config = trainer.run, trainer.config
    records = records[: config.run.validation_queries]
    started = time.perf_counter()
    result = evaluate_rerank(records, encoder, config.data.max_chars, seed=config.seed, reranker=weights)
    metrics, seconds = result.metrics["reranked"], round(time.perf_counter() - started, 3)
    row = {"kind": RERANKER_ROW, "step": checkpoint.step, "epoch": checkpoint.epoch, "n_queries": len(records)}
    row |= {"seconds": seconds, "weights": dict(weights.by_name), "metrics": {"reranked": metrics}}
    run.log(row)
    _add_to_model_card(run.best.resolve() / CARD_FILE, checkpoint.metrics, metrics)
    shown = "  ".join(f"{name} {metrics[name]:.3f}" for name in ("recall@1", "recall@5", "mrr@5"))
    trainer.listener.message(f"reranked score on these {len(records):,} queries, their own candidates: {shown}")


def has_reranker(run: RunDirectory) -> bool:
    """Return whether the best checkpoint has reranker weights, readable or not."""
    try:
        return RerankerWeights.load(run.best) is not None
    except InputError:
        return True


def _summary(weights: RerankerWeights) -> str:
    named = "  ".join(f"{name} {value:.2f}" for name, value in weights.by_name.items())
    before = f" and {weights.queries_before_training:,} before the training" if weights.queries_before_training else ""
    return f"linear reranker, fitted on {weights.queries:,} validation queries{before}: {named}"


def _add_to_model_card(card: Path, validation: dict[str, float], reranked: dict[str, float]) -> None:
    """Write the metrics of the validation and of the reranked score into a model card, if there is one."""
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        with atomic_text(card) as file:
            file.write(with_metrics(text, validation | {f"reranked.{name}": v for name, v in reranked.items()}))


def save_prior(
    trainer: Trainer, records: Sequence[Record], validation: Sequence[Record], progress: OpenProgress
) -> None:
    """Save weights in the run, before its first step: the prior of the fit after the training.

    They are fitted on the training records, which the model does not know yet. If the initial checkpoint has weights
    that were fitted on more queries, these are the prior of this fit. The weights of the initial checkpoint themselves
    are saved if the model was finetuned before, because these records may have been its training records; and if there
    are too few records for a fit.

    The model is left in training mode and the random state unchanged. Errors in the data are left to ``fit_reranker``.
    """
    run, config, checkpoint = trainer.run, trainer.config, trainer.checkpoint
    if not config.eval.rerank:
        return
    initial, fitted = _initial_weights(checkpoint), None
    if checkpoint.stage != "finetune" and len(validation) >= MIN_QUERIES:
        prior = initial if initial is not None and initial.queries > len(records) else None
        encoder = TorchEncoder(checkpoint, trainer.accelerator.device, config.eval.batch_tokens, config.eval.precision)
        with suppress(InputError), progress("fitting the reranker before the training") as report_progress:
            fitted = fit_weights(records, read_poi_table(config.data), encoder, config.seed, report_progress, prior)
        checkpoint.model.train()
    weights = initial if fitted is None else fitted
    if weights is not None:
        with suppress(InputError):
            weights.save(run.path, BEFORE_TRAINING_FILE)


def _initial_weights(checkpoint: Checkpoint) -> RerankerWeights | None:
    """Return the readable reranker weights of the checkpoint from which a training starts."""
    with suppress(InputError):
        return None if checkpoint.path is None else RerankerWeights.load(checkpoint.path)
    return None


def read_poi_table(data: DataConfig) -> pd.DataFrame | None:
    """Return the POI table of the settings, or None. Raises InputError if it cannot be read."""
    path = find_pois(data)
    return None if path is None else read_pois(path, poi_options(data, path))


def fit_weights(
    records: Sequence[Record],
    pois: pd.DataFrame | None,
    encoder: TorchEncoder,
    seed: int,
    progress: Progress,
    prior: RerankerWeights | None = None,
) -> RerankerWeights | None:
    """Fit reranker weights on labelled queries; None with fewer than ``MIN_QUERIES`` examples.

    Args:
        records: Labelled queries; the first ``MAX_QUERIES`` are used.
        pois: Columns address, lng, lat (degrees, WGS-84); None: candidates are the passages of all records.
        encoder: Encoder of queries and POIs.
        seed: Seed of the sample of a large table.
        progress: Called with the number of encoded texts.
        prior: Weights from which the new ones should differ little.
    """
    examples = collect_examples(records[:MAX_QUERIES], pois, encoder, seed, progress)
    if len(examples) < MIN_QUERIES:
        return None
    vector = fit(examples, prior=None if prior is None else prior.vector)
    return RerankerWeights.of(vector, len(examples), 0 if prior is None else prior.queries)


def collect_examples(
    records: Sequence[Record], pois: pd.DataFrame | None, encoder: TorchEncoder, seed: int, progress: Progress
) -> list[Example]:
    """Return candidates with features for the labelled queries, as ``predict`` would score them.

    Candidates are the POIs of ``sample_pool`` with the best first-stage scores. A query is left out if none or all of
    its candidates are gold.
    """
    if not records:
        return []
    pool = sample_pool(records, pois, seed)
    texts = pool["address"].tolist()
    lng, lat = (pool[name].to_numpy(np.float64) for name in ("lng", "lat"))
    row_of = {place_key(*poi): row for row, poi in enumerate(zip(texts, lng, lat, strict=True))}
    vectors = encoder.encode_poi_texts(texts, progress) + encoder.encode_locations(lng, lat)
    sparse = SparseTable.of(texts, lng, lat)
    table, extractor = CandidateTable.of_pois(pool, sparse), FeatureExtractor(DocumentFrequencies.of(texts))
    examples = []
    for record, query in zip(records, encoder.encode_queries([r.query for r in records]), strict=True):
        found = table_candidates(sparse, vectors, record.query, query)
        gold = np.isin(found.rows, [row_of[key] for key in record.gold if key in row_of])
        if gold.any() and not gold.all():
            features = extractor.features(query_of(record), table.candidates(found))
            examples.append(Example(features, gold))
    return examples


def sample_pool(records: Sequence[Record], pois: pd.DataFrame | None, seed: int, size: int = POOL_SIZE) -> pd.DataFrame:
    """Return distinct POIs: all gold POIs and at most ``size`` of the table (without a table: of the negatives)."""
    positives = [(p.text, p.lng, p.lat) for r in records for p in r.positives]
    if pois is None:
        rows = [(p.text, p.lng, p.lat) for r in records for p in r.negatives]
        pois = pd.DataFrame(rows, columns=["address", "lng", "lat"])
    table = pois[["address", "lng", "lat"]]
    if len(table) > size:
        table = table.sample(size, random_state=seed)
    pool = pd.concat([pd.DataFrame(positives, columns=table.columns), table], ignore_index=True)
    distinct = first_by_key(pool.itertuples(index=False, name=None), lambda poi: place_key(*poi))
    return pd.DataFrame(distinct, columns=pool.columns)
