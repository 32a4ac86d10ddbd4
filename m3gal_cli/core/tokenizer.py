"""Texts to token ids the way a checkpoint wants them. Imports neither torch nor transformers, which take seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.token_batches import TokenTable

TEXTS_AT_ONCE = 20_000  # the tokenizer's own objects take kilobytes a text
# RoBERTa and its kin number positions from pad_token_id + 1.
ROBERTA_KIN = {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm"}
ROBERTA_KIN |= {"xlm-roberta", "xlm-roberta-xl", "xmod"}


class TextTokenizer:
    """Turns texts into token ids the way a checkpoint wants them.

    Args:
        tokenizer: a transformers tokenizer with a padding token, or a PlainTokenizer.
        settings: max_length and append_sep are used here; prefixes are the caller's.
        max_positions: positions the encoder has; a longer text is cut there.
    """

    def __init__(self, tokenizer: Any, settings: ModelSettings, max_positions: int) -> None:
        self.tokenizer = tokenizer
        self.append_sep = settings.append_sep
        self.max_length = min(settings.max_length, max_positions)
        self.pad_id = int(tokenizer.pad_token_id or 0)

    def __call__(self, texts: Sequence[str], prefix: str = "") -> TokenTable:
        """Token ids of texts, each cut at ``max_length``."""
        parts = [self._part(texts[i : i + TEXTS_AT_ONCE], prefix) for i in range(0, len(texts), TEXTS_AT_ONCE)]
        return TokenTable.joined(parts, self.pad_id)

    def _part(self, texts: Sequence[str], prefix: str) -> TokenTable:
        full = [prefix + t for t in texts]
        if self.append_sep:
            rows = self.tokenizer(full, truncation=True, max_length=self.max_length)["input_ids"]
        else:
            first = self.tokenizer.cls_token_id
            head = [] if first is None else [first]
            room = self.max_length - len(head)
            cut = self.tokenizer(full, add_special_tokens=False, truncation=True, max_length=room)["input_ids"]
            rows = [head + row for row in cut]
        # A text of characters that the tokenizer drops would be no token at all; one padding token keeps its row.
        return TokenTable((row or [self.pad_id] for row in rows), self.pad_id)


class PlainTokenizer:
    """A tokenizer of the tokenizers library with what TextTokenizer asks of a transformers one; the ids are the same.

    Args:
        content: its JSON.
        truncation_side: right or left, where a long text is cut.
    """

    def __init__(self, content: str, pad_token_id: int | None, cls_token_id: int | None, truncation_side: str) -> None:
        from tokenizers import Tokenizer

        self.pad_token_id, self.cls_token_id, self._side = pad_token_id, cls_token_id, truncation_side
        self._inner = Tokenizer.from_str(content)
        self._inner.no_padding()

    def __call__(
        self, texts: Sequence[str], *, truncation: bool, max_length: int, add_special_tokens: bool = True
    ) -> dict[str, list[list[int]]]:
        """Token ids of texts, cut at ``max_length``."""
        self._inner.enable_truncation(max_length, direction=self._side)
        found = self._inner.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        return {"input_ids": [encoding.ids for encoding in found]}


def max_positions(config: Any) -> int:
    """Tokens that an encoder with this transformers config can take."""
    positions = int(getattr(config, "max_position_embeddings", None) or 512)
    offset = int(config.pad_token_id or 0) + 1 if config.model_type in ROBERTA_KIN else 0
    return positions - offset
