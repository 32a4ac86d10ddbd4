"""Convert texts to the token ids of a checkpoint. Imports neither torch nor transformers, which take seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.token_batches import TokenTable

BLOCK_TEXTS = 20_000  # the tokenizer's own objects take kilobytes per text
# Architectures that number positions from pad_token_id + 1, like RoBERTa.
ROBERTA_LIKE = {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm"}
ROBERTA_LIKE |= {"xlm-roberta", "xlm-roberta-xl", "xmod"}


class TextTokenizer:
    """Convert texts to token ids with the ``max_length`` and ``append_sep`` of a checkpoint's settings.

    Args:
        tokenizer: A transformers tokenizer with a padding token, or a FastTokenizer.
        settings: Model settings; their prefixes are not used.
        max_positions: Number of tokens that the encoder accepts.
        block_texts: Number of texts per call of the tokenizer.
    """

    def __init__(
        self, tokenizer: Any, settings: ModelSettings, max_positions: int, block_texts: int = BLOCK_TEXTS
    ) -> None:
        self.tokenizer = tokenizer
        self.block_texts = block_texts
        self.append_sep = settings.append_sep
        self.max_length = min(settings.max_length, max_positions)
        self.pad_id = int(tokenizer.pad_token_id or 0)

    def __call__(self, texts: Sequence[str], prefix: str = "") -> TokenTable:
        """Return the token ids of texts, each with the prefix and truncated to ``max_length``."""
        return TokenTable(self._rows(texts, prefix), self.pad_id)

    def _rows(self, texts: Sequence[str], prefix: str) -> Iterator[list[int]]:
        cls = [] if self.append_sep or self.tokenizer.cls_token_id is None else [self.tokenizer.cls_token_id]
        options = {"truncation": True, "max_length": self.max_length - len(cls), "add_special_tokens": self.append_sep}
        for start in range(0, len(texts), self.block_texts):
            block = [prefix + text for text in texts[start : start + self.block_texts]]
            for row in self.tokenizer(block, **options)["input_ids"]:
                yield (cls + row) or [self.pad_id]  # a text whose characters the tokenizer drops has no tokens


class FastTokenizer:
    """A tokenizer of the tokenizers library, with the attributes of a transformers tokenizer.

    Args:
        content: JSON of the tokenizer.
        pad_token_id: Id of the padding token.
        cls_token_id: Id of [CLS].
        truncation_side: ``right`` or ``left``, the side of long texts that is cut off.
    """

    def __init__(self, content: str, pad_token_id: int | None, cls_token_id: int | None, truncation_side: str) -> None:
        from tokenizers import Tokenizer

        self.pad_token_id, self.cls_token_id, self._side = pad_token_id, cls_token_id, truncation_side
        self._inner = Tokenizer.from_str(content)
        self._inner.no_padding()

    def __call__(
        self, texts: Sequence[str], *, truncation: bool, max_length: int, add_special_tokens: bool = True
    ) -> dict[str, list[list[int]]]:
        """Return the token ids of texts, truncated to ``max_length``."""
        self._inner.enable_truncation(max_length, direction=self._side)
        encodings = self._inner.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        return {"input_ids": [encoding.ids for encoding in encodings]}


def max_positions(config: Any) -> int:
    """Return the largest number of tokens that an encoder with this transformers config accepts."""
    positions = int(getattr(config, "max_position_embeddings", None) or 512)
    offset = int(config.pad_token_id or 0) + 1 if config.model_type in ROBERTA_LIKE else 0
    return positions - offset
