"""The small encoder of ``--text-encoder scratch``."""

from __future__ import annotations

from pathlib import Path

from m3gal_cli.core.text_encoder import build_text_model, load_tokenizer
from m3gal_cli.core.tiny_encoder import SPECIAL_TOKENS, small_config, train_tokenizer

TEXTS = ["Harbour Street 3", "harbour mall north gate", "莫干山路东村43幢", "Café Ångström"] * 5


def test_the_tokenizer_is_that_of_bert() -> None:
    tokenizer = train_tokenizer(TEXTS, 80)
    assert tokenizer.convert_ids_to_tokens(range(5)) == SPECIAL_TOKENS
    assert len(SPECIAL_TOKENS) < len(tokenizer) <= 80
    assert (tokenizer.pad_token_id, tokenizer.cls_token, tokenizer.sep_token) == (0, "[CLS]", "[SEP]")
    assert tokenizer.tokenize("莫干山路") == list("莫干山路"), "each Chinese character is a word"
    assert tokenizer("HARBOUR café")["input_ids"] == tokenizer("harbour CAFE")["input_ids"]
    assert tokenizer.tokenize("☃") == ["[UNK]"]
    assert tokenizer.tokenize("##a") == ["[UNK]", "[UNK]", "a"], "signs of inner tokens are not read as tokens"
    assert train_tokenizer(TEXTS, 300).tokenize("harbour") == ["harbour"]


def test_equal_texts_give_equal_vocabularies_also_after_saving(tmp_path: Path) -> None:
    once, again = train_tokenizer(TEXTS, 100), train_tokenizer(iter(TEXTS), 100)
    assert once.get_vocab() == again.get_vocab()
    once.save_pretrained(tmp_path)
    build_text_model(small_config(len(once), 16, 1, 2, 0.0)).config.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded(TEXTS)["input_ids"] == once(TEXTS)["input_ids"]
