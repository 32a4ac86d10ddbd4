"""The small encoder of ``--text-encoder scratch``."""

from __future__ import annotations

from m3gal_cli.core.tiny_encoder import SPECIAL_TOKENS, train_tokenizer

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


def test_equal_texts_give_equal_vocabularies() -> None:
    assert train_tokenizer(TEXTS, 100).get_vocab() == train_tokenizer(iter(TEXTS), 100).get_vocab()
