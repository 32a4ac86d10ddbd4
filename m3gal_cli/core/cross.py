"""The cross-encoder: one score for a query and a passage that are read together, word against word.

Slower than two vectors by as many times as a query has candidates, and the better judge of the few that are left.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from m3gal_cli.core.text import freeze_unused, in_chunks, pooled
from m3gal_cli.core.tokenizer import TEXTS_AT_ONCE, max_positions
from m3gal_cli.core.tokens import TokenBatch, TokenTable
from m3gal_cli.errors import InputError

SHORTEST_PAIR = 8  # tokens: up to four are special ones, and each text must have one


@dataclass(frozen=True)
class CrossSettings:
    """How pairs enter the model.

    Args:
        pooling: ``pooler``, ``cls`` or ``mean`` over the tokens that are not padding.
        max_length: tokens a pair is cut at, the longer text first; no more than the encoder has positions.
        types: whether the encoder is told which tokens are the passage's, as BERT is (see ``has_types``).
    """

    pooling: str = "mean"
    max_length: int = 96
    types: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> CrossSettings:
        return cls(**row)


class CrossEncoder(nn.Module):
    """A transformers encoder over [CLS] query [SEP] passage [SEP], a pooling, and one linear layer."""

    def __init__(self, text_model: nn.Module, settings: CrossSettings) -> None:
        super().__init__()
        if settings.pooling == "pooler" and getattr(text_model, "pooler", None) is None:
            raise InputError("this text encoder has no pooler", hint="Set model.pooling to mean or cls.")
        if settings.max_length < SHORTEST_PAIR:
            what = f"model.max_length {settings.max_length} leaves a pair of texts no room"
            raise InputError(what, hint=f"Set {SHORTEST_PAIR} or more.")
        self.settings = settings
        config: Any = text_model.config
        self.text_config = config
        self.text_encoder = text_model
        self.score = nn.Linear(int(config.hidden_size), 1)
        self.recompute = False  # see in_chunks
        freeze_unused(text_model, settings.pooling)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Scores of a batch of pairs, in float32, its rows in their order. Shape: -> (N,)."""
        return in_chunks(self.pair_scores, batch, self.recompute)

    def text_encoders(self) -> dict[str, nn.Module]:
        """The transformers encoder, by what it reads."""
        return {"pairs": self.text_encoder}

    def parts(self) -> dict[str, nn.Module]:
        """The parts by what they are called."""
        return {"text encoder": self.text_encoder, "score": self.score}

    def pair_scores(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """Shape: ids, mask and, for an encoder that tells the two texts apart by them, types: (B, L) -> (B,)."""
        typed = {} if types is None else {"token_type_ids": types}
        vectors = pooled(self.text_encoder(input_ids=ids, attention_mask=mask, **typed), mask, self.settings.pooling)
        with torch.autocast(ids.device.type, enabled=False):  # bf16 scores would tie within half a percent
            return self.score(vectors).squeeze(-1)


class PairTable(TokenTable):
    """Token ids of N pairs and, where the encoder has types, those of their tokens (0: query, 1: passage)."""

    def __init__(self, rows: Sequence[Sequence[int]], pad_id: int, types: Sequence[Sequence[int]] | None) -> None:
        super().__init__(rows, pad_id)
        self.types = None if types is None else TokenTable(types, 0)

    def chunk(self, rows: ArrayLike) -> tuple[Tensor, ...]:
        """ids, mask and, if there are any, types of these pairs. Shape: (B, L) each."""
        return self.pad(rows) if self.types is None else (*self.pad(rows), self.types.pad(rows)[0])


class PairTokenizer:
    """Turns pairs of texts into token ids, in the tokenizer's own form of a pair.

    Args:
        tokenizer: a transformers tokenizer with a padding token.
        model: whose pairs they are.
    """

    def __init__(self, tokenizer: Any, model: CrossEncoder) -> None:
        self.tokenizer, self.typed = with_separator(tokenizer), model.settings.types
        self.max_length = min(model.settings.max_length, max_positions(model.text_config))
        self.pad_id = int(tokenizer.pad_token_id or 0)

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> PairTable:
        """Token ids of pairs of a query and a passage, each cut at ``max_length``."""
        rows: list[list[int]] = []
        types: list[list[int]] = []
        for start in range(0, len(pairs), TEXTS_AT_ONCE):
            queries, passages = (list(side) for side in zip(*pairs[start : start + TEXTS_AT_ONCE], strict=True))
            cut = {"truncation": "longest_first", "max_length": self.max_length}
            found = self.tokenizer(queries, passages, return_token_type_ids=self.typed, **cut)
            rows += found["input_ids"]
            types += found["token_type_ids"] if self.typed else []
        # Two texts of characters that the tokenizer drops might be no token at all; one padding token keeps their row.
        rows = [row or [self.pad_id] for row in rows]
        return PairTable(rows, self.pad_id, [row or [0] for row in types] if self.typed else None)


def has_types(tokenizer: Any, text_config: Any) -> bool:
    """Whether tokenizer and encoder tell the two texts of a pair apart by the types of their tokens."""
    known = with_separator(tokenizer)("a", "b", return_token_type_ids=True).get("token_type_ids", ())
    return int(getattr(text_config, "type_vocab_size", 0)) > 1 and 1 in known


def with_separator(tokenizer: Any) -> Any:
    """The tokenizer, or a copy that puts [SEP] behind both texts of a pair where it puts none.

    Such a one comes with a bi-encoder whose texts end without [SEP], as the published ones do.
    """
    from tokenizers import processors

    first, last = tokenizer.cls_token, tokenizer.sep_token
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or first is None or last is None:
        return tokenizer
    if tokenizer.sep_token_id in tokenizer("a", "b")["input_ids"]:
        return tokenizer
    made = copy.deepcopy(tokenizer)
    special = [(first, tokenizer.cls_token_id), (last, tokenizer.sep_token_id)]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1", special_tokens=special
    )
    return made
