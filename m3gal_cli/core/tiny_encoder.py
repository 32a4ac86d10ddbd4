"""A small BERT with random weights and a vocabulary trained on given texts (``--text-encoder scratch``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, PreTrainedTokenizerFast

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Train a lower-casing WordPiece tokenizer with BERT's special tokens; each Chinese character is a word.

    Equal texts give equal vocabularies, of at most ``vocab_size`` tokens. The trainer numbers the characters within
    words in the order of a hash table, and breaks ties by these numbers (huggingface/tokenizers#1794). Therefore a
    first pass finds the characters, and the second pass gets them in sorted order.
    """
    rows = list(texts)
    first_pass = _train(rows, 1, SPECIAL_TOKENS)
    inner = sorted(token for token in first_pass if len(token) == len("##x") and token.startswith("##"))
    vocabulary = _train(rows, vocab_size, SPECIAL_TOKENS + inner)
    tokenizer = _bert_tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    special = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_TOKENS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _bert_tokenizer(model: Any) -> Any:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _train(texts: list[str], vocab_size: int, first: list[str]) -> dict[str, int]:
    """Return the ids of the tokens ``first``, then of all characters, then of merges, up to ``vocab_size``."""
    tokenizer = _bert_tokenizer(models.WordPiece(unk_token="[UNK]"))
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary


def small_config(vocab_size: int, hidden: int, layers: int, heads: int, dropout: float) -> Any:
    """Return the transformers config of a small BERT; ``hidden`` must be a multiple of ``heads``."""
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
