"""Fit the reranker on queries that the encoders were not trained on; the optimisation is in ``network_fit``.

The queries are labelled ones, ones of every style that are made from the POI table, and those of the rehearsal. Before
a finetuning, the weights of the initial checkpoint (the prior) are fitted further with the training queries. After the
training, these are fitted further with the validation queries, which are often few.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pandas as pd

from m3gal_cli.config.paths import find_pois
from m3gal_cli.config.schema import DataConfig
from m3gal_cli.core.checkpoint import CARD_FILE, Checkpoint
from m3gal_cli.core.devices import choose_attention, resolve_precision
from m3gal_cli.core.model_card import with_metrics
from m3gal_cli.data.records import Record
from m3gal_cli.encoders.checkpoint_lookup import PACKAGED_MODEL
from m3gal_cli.encoders.model_loading import open_checkpoint
from m3gal_cli.encoders.protocol import Encoder, Progress
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.rerank import evaluate_rerank
from m3gal_cli.files import atomic_text
from m3gal_cli.matching.saved_reranker import packaged_weights
from m3gal_cli.poi_source import poi_options, read_pois
from m3gal_cli.rerank.weights import BEFORE_TRAINING_FILE, RerankerWeights
from m3gal_cli.training.network_fit import fit_network
from m3gal_cli.training.rehearsal import load_rehearsal
from m3gal_cli.training.report import update_report
from m3gal_cli.training.reranker_examples import ExampleTable, sample_pool
from m3gal_cli.training.run_directory import RERANKER_ROW, RunDirectory
from m3gal_cli.training.trainer import Trainer

OpenProgress = Callable[[str], AbstractContextManager[Progress]]  # opens a progress display with this title
LEAST_POIS = 20  # with fewer POIs no weights are fitted
MAX_REPEATS = 4  # of few labelled queries, so that they count as much as the made ones
MAX_QUERIES = 600  # labelled ones
MADE_QUERIES, MADE_PER_POI = 600, 4  # largest numbers of queries made from the POI table


def fit_reranker(trainer: Trainer, records: Sequence[Record], progress: OpenProgress) -> None:
    """Fit the reranker of the best checkpoint and save its weights there.

    With fewer than ``LEAST_POIS`` POIs, the prior is saved there instead. The reranked metrics of the validation
    records go into metrics.jsonl, the report and the model card. With ``eval.rerank: false``, nothing happens. An
    InputError (bad data, full disk) becomes a warning, because the run is complete without a reranker.
    """
    run, config, listener = trainer.run, trainer.config, trainer.listener
    if not config.eval.rerank:
        return
    try:
        prior = RerankerWeights.load(run.path, BEFORE_TRAINING_FILE) or _initial_weights(trainer.checkpoint)
        checkpoint, encoder = _best_encoder(trainer)
        with progress("fitting the reranker") as report_progress:
            fitted = fit_weights(records, read_poi_table(config.data), encoder, config.seed, report_progress, prior)
        weights = prior if fitted is None else fitted
        listener.message(_summary(fitted))
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
    row |= {"seconds": seconds, "queries": weights.queries, "made_queries": weights.made_queries}
    row |= {"metrics": {"reranked": metrics}}
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


def _summary(fitted: RerankerWeights | None) -> str:
    if fitted is None:
        return f"fewer than {LEAST_POIS} POIs: the reranker keeps its weights from before the training"
    made = f"{fitted.made_queries:,} queries made from the POI table"
    return f"reranker: fitted on {fitted.queries:,} validation queries and {made}"


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

    They are fitted with the training records, which the model does not know yet. The weights of the initial checkpoint
    are saved instead if the model was finetuned before, because these records may have been its training records; and
    without validation records.

    The model is left in training mode and the random state unchanged. Errors in the data are left to ``fit_reranker``.
    """
    run, config, checkpoint = trainer.run, trainer.config, trainer.checkpoint
    if not config.eval.rerank:
        return
    initial, fitted = _initial_weights(checkpoint), None
    if checkpoint.stage != "finetune" and validation:
        encoder = TorchEncoder(checkpoint, trainer.accelerator.device, config.eval.batch_tokens, config.eval.precision)
        with suppress(InputError), progress("fitting the reranker before the training") as report_progress:
            fitted = fit_weights(records, read_poi_table(config.data), encoder, config.seed, report_progress, initial)
        checkpoint.model.train()
    with suppress(InputError):
        (initial if fitted is None else fitted).save(run.path, BEFORE_TRAINING_FILE)


def _initial_weights(checkpoint: Checkpoint) -> RerankerWeights:
    """Return the readable reranker weights of the checkpoint from which a training starts, else the packaged ones."""
    own = None
    with suppress(InputError):
        own = None if checkpoint.path is None else RerankerWeights.load(checkpoint.path)
    return own or packaged_weights()


def read_poi_table(data: DataConfig) -> pd.DataFrame | None:
    """Return the POI table of the settings, or None. Raises InputError if it cannot be read."""
    path = find_pois(data)
    return None if path is None else read_pois(path, poi_options(data, path))


def fit_weights(
    records: Sequence[Record],
    pois: pd.DataFrame | None,
    encoder: Encoder,
    seed: int,
    progress: Progress,
    prior: RerankerWeights,
) -> RerankerWeights | None:
    """Fit reranker weights on labelled queries and on queries made from the table; None with too few POIs.

    Args:
        records: Labelled queries; the first ``MAX_QUERIES`` are used.
        pois: Columns address, lng, lat (degrees, WGS-84); None: candidates are the passages of all records.
        encoder: Encoder of queries and POIs.
        seed: Seed of the sample of a large table and of the queries.
        progress: Called with the number of encoded texts.
        prior: Weights from which the fit starts.
    """
    records = records[:MAX_QUERIES]
    pool = sample_pool(records, pois, seed)
    if len(pool) < LEAST_POIS:
        return None
    table = ExampleTable(pool, encoder, progress)
    labelled, made = table.labelled(records), table.made(min(MADE_QUERIES, MADE_PER_POI * len(pool)), seed)
    repeats = min(max(len(made) // max(len(labelled), 1), 1), MAX_REPEATS)
    examples = [*table.examples(labelled) * repeats, *table.examples(made), *load_rehearsal(PACKAGED_MODEL)]
    arrays = fit_network(examples, seed, prior.arrays)
    return RerankerWeights(arrays, len(labelled), len(made))
