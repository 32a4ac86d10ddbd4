"""A small text encoder that starts from nothing: its vocabulary is trained on given texts, its weights are random."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """A lower-casing WordPiece tokenizer with BERT's special tokens; Chinese characters are words of their own.

    Equal texts give equal vocabularies. The trainer alone would number the characters within words in the order of a
    hash table, and decide ties by these numbers (huggingface/tokenizers#1794): here they are numbered beforehand.
    """
    from tokenizers import models, processors
    from transformers import PreTrainedTokenizerFast

    rows = list(texts)
    inner = sorted(t for t in _train(rows, 1, SPECIAL) if len(t) == len("##x") and t.startswith("##"))
    vocabulary = _train(rows, vocab_size, SPECIAL + inner)
    tokenizer = _plain(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIAL)
    special = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _plain(model: Any) -> Any:
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _train(texts: list[str], vocab_size: int, first: list[str]) -> dict[str, int]:
    """Token to number: ``first``, every character, then merges up to ``vocab_size``."""
    from tokenizers import models, trainers

    tokenizer = _plain(models.WordPiece(unk_token="[UNK]"))
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary


def small_config(vocab_size: int, hidden: int, layers: int, heads: int, dropout: float) -> Any:
    """The transformers config of a small BERT. ``hidden`` must be a multiple of ``heads``."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=512,
        pad_token_id=0,
    )
