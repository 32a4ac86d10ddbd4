"""The text encoder in sentence-transformers: unchanged ("zero-shot"), and finetuned with in-batch and given negatives.

Besides the cosine there are rows with the distance to the query location and with BM25, by weights fitted on the
validation queries. A query without a location gets the scores of the rows without distance.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from m3gal_cli.data.records import Record
from quality.bm25 import Bm25Index
from quality.evaluation_set import (
    WEIGHT_SETTINGS,
    EvaluationSet,
    ScoreResult,
    Scores,
    bm25_scores,
    fit_weights,
    median_latency_ms,
    weighted_sum,
)
from quality.folds import without_false_negatives
from quality.interface import Job, Options, Result

QUERY_PREFIX, PASSAGE_PREFIX = "query: ", "passage: "
MAX_TOKENS, BATCH_SIZE = 64, 32
RECIPE: dict[str, Any] = {"lr": 4e-5, "epochs": 2, "batch": 16, "scale": 50.0, "negatives": 6, "warmup": 0.1}
FROZEN = "word_embeddings"
DISTANCE, BM25 = "+ distance", "+ BM25"


class TrainingExamples:
    """Query, positive and a sample of the negatives of each record; every access draws a new sample."""

    def __init__(self, records: Sequence[Record], negatives: int, seed: int) -> None:
        self.records, self.generator = list(records), random.Random(seed)
        self.negatives = min(negatives, *(len(r.negatives) for r in records))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, i: int) -> Any:
        from sentence_transformers import InputExample

        record = self.records[i]
        passages = [record.positives[0], *self.generator.sample(record.negatives, self.negatives)]
        return InputExample(texts=[QUERY_PREFIX + record.query, *(PASSAGE_PREFIX + p.text for p in passages)], label=0)


class CachingEncoder:
    """A sentence-transformers model that encodes each passage once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._known: dict[str, Scores] = {}

    def encode_queries(self, texts: Sequence[str]) -> Scores:
        """Return unit vectors of queries. Shape: N texts -> (N, D)."""
        return self._encode(QUERY_PREFIX, texts)

    def encode_passages(self, texts: Sequence[str]) -> Scores:
        """Return unit vectors of passages. Shape: N texts -> (N, D)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encode(PASSAGE_PREFIX, new), strict=True))
        return np.stack([self._known[text] for text in texts])

    def _encode(self, prefix: str, texts: Sequence[str]) -> Scores:
        texts = [prefix + text for text in texts]
        vectors = self.model.encode(texts, batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, np.float64)


def load_model(encoder: str) -> Any:
    """Return the encoder with mean pooling, in float32 on the CPU."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.set_verbosity_error()  # hides the warning that the checkpoint has no pooler
    logging.disable_progress_bar()
    model = SentenceTransformer(encoder, device="cpu").float()
    model.max_seq_length = MAX_TOKENS
    return model


def finetune(model: Any, records: Sequence[Record], seed: int) -> None:
    """Train a model in place with MultipleNegativesRankingLoss over the batch and the records' negatives."""
    import torch
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from torch.utils.data import DataLoader

    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(FROZEN not in name)
    examples = TrainingExamples(without_false_negatives(records), RECIPE["negatives"], seed)
    loader: Any = DataLoader(examples, batch_size=RECIPE["batch"], shuffle=True)  # type: ignore[arg-type]
    steps = RECIPE["epochs"] * len(loader)
    model.old_fit(  # the newer trainer does the same and needs one more library
        [(loader, MultipleNegativesRankingLoss(model, scale=RECIPE["scale"]))],
        epochs=RECIPE["epochs"],
        warmup_steps=int(RECIPE["warmup"] * steps),
        optimizer_params={"lr": RECIPE["lr"]},
        show_progress_bar=False,
    )


@lru_cache(maxsize=1)
def untrained_encoder(encoder: str) -> CachingEncoder:
    """Return the unchanged encoder; all folds share it, as they encode the same passages."""
    return CachingEncoder(load_model(encoder))


def zero_shot(job: Job) -> Result:
    """Evaluate the unchanged encoder."""
    return Result(evaluate_encoder(untrained_encoder(job.options.encoder), job))


def finetuned(job: Job) -> Result:
    """Finetune the encoder on the training queries of the fold and evaluate it."""
    model = load_model(job.options.encoder)
    start = time.perf_counter()
    finetune(model, job.fold.train, job.seed)
    minutes = (time.perf_counter() - start) / 60
    return Result(evaluate_encoder(CachingEncoder(model.eval()), job), minutes)


def zero_shot_settings(options: Options) -> dict[str, Any]:
    """Return the settings that the result of ``zero_shot`` depends on."""
    return {"encoder": Path(options.encoder).name, "tokens": MAX_TOKENS, **WEIGHT_SETTINGS}


def finetuned_settings(options: Options) -> dict[str, Any]:
    """Return the settings that the result of ``finetuned`` depends on."""
    return zero_shot_settings(options) | RECIPE


def evaluate_encoder(encoder: CachingEncoder, job: Job) -> dict[str, ScoreResult]:
    """Return results of the cosine alone, with distance, with BM25, and with both."""
    val, test = EvaluationSet(job.fold.val, job.fold.pois), EvaluationSet(job.fold.test, job.fold.pois)
    index, vectors = Bm25Index(test.texts), encoder.encode_passages(test.texts)
    cosine = [encoder.encode_queries(part.queries) @ encoder.encode_passages(part.texts).T for part in (val, test)]
    terms_of = {
        DISTANCE: [val.proximity(), test.proximity()],
        BM25: [bm25_scores(val, Bm25Index(val.texts)), bm25_scores(test, index)],
    }

    def answer(i: int, names: Sequence[str]) -> int:
        scores = vectors @ encoder.encode_queries([test.queries[i]])[0]
        if DISTANCE in names:
            scores += test.proximity_of(i)
        if BM25 in names:
            scores += index.scores(test.queries[i])
        return int(scores.argmax())

    def latency(*names: str) -> float | None:
        return median_latency_ms(lambda i: answer(i, names), len(test.records)) if job.timed else None

    results = {"": test.evaluate(cosine[1], latency())}
    for names in ((DISTANCE,), (BM25,), (DISTANCE, BM25)):
        terms = [terms_of[name] for name in names]
        weights = fit_weights(val, cosine[0], [term[0] for term in terms])
        scores = weighted_sum(cosine[1], [term[1] for term in terms], weights)
        results[" ".join(names)] = test.evaluate(scores, latency(*names), weights)
    return results
