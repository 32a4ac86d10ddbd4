"""Token ids, pooling against loops, and loading of encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, MPNetConfig, XLMRobertaConfig

from m3gal_cli.core import text_encoder as text_module
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.text_encoder import build_text_model, load_text_config, load_text_model, load_tokenizer
from m3gal_cli.core.tiny_encoder import train_tokenizer
from m3gal_cli.core.tokenizer import TextTokenizer, max_positions
from m3gal_cli.errors import InputError
from tests.helpers.toy_models import TEXTS, toy_checkpoint

TOKENIZER = train_tokenizer(TEXTS, 200)
CLS, SEP = TOKENIZER.convert_tokens_to_ids(["[CLS]", "[SEP]"])


def tokenizer(positions: int = 512, **settings: Any) -> TextTokenizer:
    return TextTokenizer(TOKENIZER, ModelSettings(**settings), positions, block_texts=2)


def pieces(text: str) -> list[int]:
    return TOKENIZER.convert_tokens_to_ids(TOKENIZER.tokenize(text))


@pytest.mark.parametrize(("append_sep", "tail"), [(True, [SEP]), (False, [])], ids=["sep", "no sep"])
def test_token_ids_have_special_tokens_and_prefix(append_sep: bool, tail: list[int]) -> None:
    tokenize = tokenizer(append_sep=append_sep)
    rows = tokenize([*TEXTS, ""], prefix="harbour: ")
    assert all(row.dtype == np.int32 for row in rows)
    for row, text in zip(rows, [*TEXTS, ""], strict=True):
        assert row.tolist() == [CLS, *pieces(f"harbour: {text}"), *tail]
    assert len(tokenize([])) == 0


@pytest.mark.parametrize("append_sep", [True, False])
@pytest.mark.parametrize(("max_length", "positions", "length"), [(64, 512, 64), (512, 40, 40)])
def test_long_texts_are_truncated(append_sep: bool, max_length: int, positions: int, length: int) -> None:
    tokenize = tokenizer(positions, append_sep=append_sep, max_length=max_length)
    long = ("莫干山路" * 2500)[:10_000]
    (row,) = tokenize([long])
    body = pieces("莫干山路" * 20)
    assert len(row) == length
    assert row.tolist() == ([CLS, *body[: length - 2], SEP] if append_sep else [CLS, *body[: length - 1]])


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_pooling_equals_that_of_loops_and_ignores_padding(pooling: str) -> None:
    encoder = toy_checkpoint(pooling=pooling).model.encoder_q
    rows = tokenizer()(TEXTS)
    ids, mask = rows.pad()
    result = encoder(ids.where(mask == 1, 7), mask)
    torch.testing.assert_close(result.norm(dim=1), torch.ones(len(TEXTS)))
    for row, vector in zip(rows, result, strict=True):
        out = encoder.text_encoder(input_ids=torch.tensor([row.tolist()]))
        states = out.last_hidden_state[0]
        if pooling == "mean":
            pooled = sum(states) / len(row)
        elif pooling == "cls":
            pooled = states[0]
        else:
            dense = encoder.text_encoder.pooler.dense
            pooled = torch.tanh(states[0] @ dense.weight.T + dense.bias)
        torch.testing.assert_close(vector, pooled / pooled.norm(), atol=1e-6, rtol=0)


def test_roberta_has_fewer_positions_than_its_config_states() -> None:
    sizes = {"max_position_embeddings": 34, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    sizes |= {"intermediate_size": 16, "vocab_size": 50}
    for config, positions in (
        (BertConfig(**sizes), 34),
        (XLMRobertaConfig(pad_token_id=1, **sizes), 32),
        (MPNetConfig(pad_token_id=1, **sizes), 32),
    ):
        assert max_positions(config) == positions
        model = build_text_model(config).eval()
        full, over = (torch.full((1, n), 7) for n in (positions, positions + 1))
        assert torch.isfinite(model(input_ids=full).last_hidden_state).all()
        with pytest.raises((IndexError, RuntimeError)):  # the encoder rejects one token more
            model(input_ids=over)


def test_a_half_precision_encoder_is_loaded_in_float32(tmp_path: Path) -> None:
    model = build_text_model(toy_checkpoint().model.encoder_q.text_encoder.config).eval()
    model.half().save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    loaded = load_text_model(str(tmp_path))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(dict(loaded.named_parameters()), {k: v.float() for k, v in model.named_parameters()})
    assert load_text_config(str(tmp_path)).hidden_size == 16
    assert load_tokenizer(str(tmp_path))(TEXTS)["input_ids"] == TOKENIZER(TEXTS)["input_ids"]


def test_an_encoder_that_cannot_be_loaded_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "_hub_answers", lambda: False)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{", encoding="utf-8")
    for source, words in (
        (str(tmp_path), "no config.json"),
        (str(tmp_path / "none" / "such"), "no such directory"),
        (str(tmp_path / "broken"), "cannot load the text encoder"),
        ("no-such-encoder-m3gal", "not in the local cache"),
    ):
        for load in (load_text_config, load_tokenizer, load_text_model):
            with pytest.raises(InputError, match=words) as caught:
                load(source)
            assert "--text-encoder" in str(caught.value.hint)
