"""The encoder that starts from nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3gal_cli.core.text_encoder import build_text_model, load_tokenizer
from m3gal_cli.core.tiny_encoder import SPECIAL, small_config, train_tokenizer

TEXTS = ["Harbour Street 3", "harbour mall north gate", "莫干山路东村43幢", "Café Ångström"] * 5


def test_vocabulary() -> None:
    tokenizer = train_tokenizer(TEXTS, 80)
    assert tokenizer.convert_ids_to_tokens(range(5)) == SPECIAL
    assert len(SPECIAL) < len(tokenizer) <= 80
    assert (tokenizer.pad_token_id, tokenizer.cls_token, tokenizer.sep_token) == (0, "[CLS]", "[SEP]")
    assert tokenizer.tokenize("莫干山路") == list("莫干山路"), "a Chinese character is a word"
    assert tokenizer("HARBOUR café")["input_ids"] == tokenizer("harbour CAFE")["input_ids"]
    assert tokenizer.tokenize("☃") == ["[UNK]"]
    assert train_tokenizer(TEXTS, 300).tokenize("harbour") == ["harbour"]


def test_the_same_texts_give_the_same_vocabulary_after_saving_too(tmp_path: Path) -> None:
    once, again = train_tokenizer(TEXTS, 100), train_tokenizer(iter(TEXTS), 100)
    assert once.get_vocab() == again.get_vocab()
    once.save_pretrained(tmp_path)
    build_text_model(small_config(len(once), 16, 1, 2, 0.0)).config.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded(TEXTS)["input_ids"] == once(TEXTS)["input_ids"]
    assert loaded("harbour")["input_ids"][0] == loaded.cls_token_id
    assert loaded("harbour")["input_ids"][-1] == loaded.sep_token_id


@pytest.mark.parametrize(("vocab", "hidden", "layers", "heads"), [(90, 16, 1, 2), (300, 24, 3, 4)])
def test_config_is_as_asked(vocab: int, hidden: int, layers: int, heads: int) -> None:
    model = build_text_model(small_config(vocab, hidden, layers, heads, 0.25))
    assert model.embeddings.word_embeddings.weight.shape == (vocab, hidden)
    assert len(model.encoder.layer) == layers
    assert model.config.num_attention_heads == heads
    assert model.config.hidden_dropout_prob == model.config.attention_probs_dropout_prob == 0.25
