"""The encoder as sentence-transformers takes it: as it is, and finetuned in an afternoon.

Besides the cosine alone there are rows with what a user would add next: the distance from where the query was typed and
BM25, by weights learned on the validation queries. The rows without distance are those of a query that does not say
where it was typed.
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
from m3gal_cli.text.bm25 import LexicalIndex
from quality.board import WEIGHING, Board, Row, Scores, learn_weights, lexical_scores, milliseconds, weighted
from quality.folds import trainable
from quality.job import Job, Options, Result

QUERY, PASSAGE = "query: ", "passage: "
TOKENS, ENCODED_AT_ONCE = 64, 32
RECIPE: dict[str, Any] = {"lr": 4e-5, "epochs": 2, "batch": 16, "scale": 50.0, "negatives": 6, "warmup": 0.1}
FROZEN = "word_embeddings"
DISTANCE, LEXICAL = "+ distance", "+ BM25"


class Drawn:
    """Query, positive and some negatives of each record, the negatives drawn anew whenever it is asked for."""

    def __init__(self, records: Sequence[Record], negatives: int, seed: int) -> None:
        self.records, self.generator = list(records), random.Random(seed)
        self.negatives = min(negatives, *(len(r.negatives) for r in records))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, i: int) -> Any:
        from sentence_transformers import InputExample

        record = self.records[i]
        passages = [record.positives[0], *self.generator.sample(record.negatives, self.negatives)]
        return InputExample(texts=[QUERY + record.query, *(PASSAGE + p.text for p in passages)], label=0)


class Encoder:
    """A sentence-transformers model that encodes each passage once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._known: dict[str, Scores] = {}

    def queries(self, texts: Sequence[str]) -> Scores:
        """Unit vectors. Shape: N texts -> (N, D)."""
        return self._encoded(QUERY, texts)

    def passages(self, texts: Sequence[str]) -> Scores:
        """Unit vectors. Shape: N texts -> (N, D)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encoded(PASSAGE, new), strict=True))
        return np.stack([self._known[text] for text in texts])

    def _encoded(self, prefix: str, texts: Sequence[str]) -> Scores:
        asked = [prefix + text for text in texts]
        found = self.model.encode(asked, batch_size=ENCODED_AT_ONCE, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found, np.float64)


def load(encoder: str) -> Any:
    """The encoder with mean pooling, in float32 on the CPU."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.set_verbosity_error()  # that a BERT comes without its pooler is no news
    logging.disable_progress_bar()
    model = SentenceTransformer(encoder, device="cpu").float()
    model.max_seq_length = TOKENS
    return model


def finetune(model: Any, records: Sequence[Record], seed: int) -> None:
    """MultipleNegativesRankingLoss over the batch and the records' negatives, by ``RECIPE``."""
    import torch
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from torch.utils.data import DataLoader

    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(FROZEN not in name)
    rows = Drawn(trainable(records), RECIPE["negatives"], seed)
    loader: Any = DataLoader(rows, batch_size=RECIPE["batch"], shuffle=True)  # type: ignore[arg-type]
    steps = RECIPE["epochs"] * len(loader)
    model.old_fit(  # its own loop; the newer trainer does the same and needs one library more
        [(loader, MultipleNegativesRankingLoss(model, scale=RECIPE["scale"]))],
        epochs=RECIPE["epochs"],
        warmup_steps=int(RECIPE["warmup"] * steps),
        optimizer_params={"lr": RECIPE["lr"]},
        show_progress_bar=False,
    )


@lru_cache(maxsize=1)
def untrained(encoder: str) -> Encoder:
    """The encoder as it is; all folds ask for the same passages."""
    return Encoder(load(encoder))


def zero_shot(job: Job) -> Result:
    """The encoder as it is."""
    return Result(rows_of(untrained(job.options.encoder), job))


def finetuned(job: Job) -> Result:
    """The encoder finetuned on the fold's training queries."""
    model = load(job.options.encoder)
    began = time.perf_counter()
    finetune(model, job.fold.train, job.seed)
    minutes = (time.perf_counter() - began) / 60
    return Result(rows_of(Encoder(model.eval()), job), minutes)


def settings(options: Options) -> dict[str, Any]:
    """What a finetuned encoder depends on."""
    return {"encoder": Path(options.encoder).name, "tokens": TOKENS, **WEIGHING, **RECIPE}


def as_it_is(options: Options) -> dict[str, Any]:
    """What the encoder as it is depends on."""
    return {name: value for name, value in settings(options).items() if name not in RECIPE}


def rows_of(encoder: Encoder, job: Job) -> dict[str, Row]:
    """The cosine alone, with distance, with BM25, and with both."""
    val, test = Board(job.fold.val, job.fold.pois), Board(job.fold.test, job.fold.pois)
    index, own = LexicalIndex(test.texts), encoder.passages(test.texts)
    dense = [encoder.queries(board.queries) @ encoder.passages(board.texts).T for board in (val, test)]
    lexical = [lexical_scores(val, LexicalIndex(val.texts)), lexical_scores(test, index)]
    near = [val.nearness(), test.nearness()]

    def ask(i: int, names: Sequence[str]) -> int:
        scores = own @ encoder.queries([test.queries[i]])[0]
        if DISTANCE in names:
            scores += test.nearness_of(i)
        if LEXICAL in names:
            scores += index.scores(test.queries[i])
        return int(scores.argmax())

    def ms(*names: str) -> float | None:
        return milliseconds(lambda i: ask(i, names), len(test.records)) if job.timed else None

    out = {"": test.judge(dense[1], ms())}
    for names in ((DISTANCE,), (LEXICAL,), (DISTANCE, LEXICAL)):
        terms = [near if name == DISTANCE else lexical for name in names]
        weights = learn_weights(val, dense[0], [term[0] for term in terms])
        scores = weighted(dense[1], [term[1] for term in terms], weights)
        out[" ".join(names)] = test.judge(scores, ms(*names), weights)
    return out
