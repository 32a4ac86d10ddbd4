"""The cross-encoder against its definition pair by pair; its checkpoint, and what is told from a bi-encoder's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import processors
from toy import TEXTS, toy_checkpoint, toy_cross

from m3gal_cli.core.checkpoint import load_checkpoint, save_checkpoint
from m3gal_cli.core.cross import PairTokenizer, has_types, with_separator
from m3gal_cli.core.cross_checkpoint import CrossCheckpoint, load_cross
from m3gal_cli.core.files import BI_ENCODER, CROSS_ENCODER, kind_of, poi_sources
from m3gal_cli.core.scratch import small_config
from m3gal_cli.core.text import load_tokenizer
from m3gal_cli.errors import InputError

LONG = "harbour street 莫干山路东村 north gate mall " * 5
PAIRS = [(a, b) for a in (*TEXTS, LONG) for b in (*TEXTS[:3], LONG)]
POOLINGS = ["mean", "cls", "pooler"]
CPU = torch.device("cpu")


def by_definition(checkpoint: CrossCheckpoint, query: str, passage: str) -> float:
    """One pair alone, through transformers and a dot product in float64."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    room: dict[str, Any] = {"truncation": "longest_first", "max_length": model.settings.max_length}
    room["return_token_type_ids"] = model.settings.types
    with torch.inference_mode():
        out = model.text_encoder(**tokenizer(query, passage, return_tensors="pt", **room))
    hidden = out.last_hidden_state[0]
    vector = {"mean": hidden.mean(0), "cls": hidden[0], "pooler": out.pooler_output[0]}[model.settings.pooling]
    return float(vector.double() @ model.score.weight[0].detach().double() + model.score.bias.item())


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("limit", [None, 3])
def test_scores_by_definition(pooling: str, recompute: bool, limit: int | None) -> None:
    checkpoint = toy_cross(pooling=pooling, max_length=24, types=recompute)
    model, table = checkpoint.model, PairTokenizer(checkpoint.tokenizer, checkpoint.model)(PAIRS)
    model.recompute = recompute
    batch = table.batch(np.arange(len(PAIRS)), CPU, limit)
    assert len(batch.chunks) > 1
    wanted = [by_definition(checkpoint, *pair) for pair in PAIRS]
    assert model(batch).tolist() == pytest.approx(wanted, abs=1e-5)
    assert np.std(wanted) > 0.01


def test_gradients_are_those_of_the_plain_pass() -> None:
    checkpoint = toy_cross()
    table, found = PairTokenizer(checkpoint.tokenizer, checkpoint.model)(PAIRS), []
    for limit in (None, 2):
        checkpoint.model.recompute = limit is not None
        checkpoint.model.zero_grad()
        checkpoint.model(table.batch(np.arange(len(PAIRS)), CPU, limit)).square().sum().backward()
        found.append([p.grad for p in checkpoint.model.parameters() if p.grad is not None])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-4)


def test_the_form_of_a_pair() -> None:
    """[CLS] query [SEP] passage [SEP], types 0 and 1; of a pair that is too long the longer text is cut."""
    checkpoint = toy_cross(max_length=12, types=True)
    inner = checkpoint.tokenizer
    first, last = inner.cls_token_id, inner.sep_token_id

    def ids(text: str) -> list[int]:
        found: list[int] = inner(text, add_special_tokens=False)["input_ids"]
        return found

    table = PairTokenizer(inner, checkpoint.model)([("north gate", "harbour mall"), ("north gate", LONG), (LONG, LONG)])
    query, passage = ids("north gate"), ids("harbour mall")
    assert table[0].tolist() == [first, *query, last, *passage, last]
    assert table.types is not None
    assert table.types[0].tolist() == [0] * (len(query) + 2) + [1] * (len(passage) + 1)
    assert table[1].tolist() == [first, *query, last, *ids(LONG)[: 9 - len(query)], last]
    assert len(table[2]) == 12
    assert table.types[2].sum() in (5, 6), "both texts keep half of the room"
    assert PairTokenizer(inner, toy_cross().model)(PAIRS).types is None


def test_types_where_tokenizer_and_encoder_have_them() -> None:
    tokenizer = toy_cross().tokenizer
    shape = small_config(len(tokenizer), 16, 1, 2, 0.0)
    assert has_types(tokenizer, shape)
    shape.type_vocab_size = 1
    assert not has_types(tokenizer, shape)
    alike = tokenizer.backend_tokenizer
    special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")]
    alike.post_processor = processors.TemplateProcessing(pair="[CLS] $A [SEP] $B:0 [SEP]:0", special_tokens=special)
    assert not has_types(tokenizer, small_config(len(tokenizer), 16, 1, 2, 0.0))


def test_a_tokenizer_that_leaves_out_sep_gets_it_for_pairs(tmp_path: Path) -> None:
    """As that of a bi-encoder trained with the published settings."""
    save_checkpoint(tmp_path / "bi", toy_checkpoint(append_sep=False))
    bare, whole = load_tokenizer(str(tmp_path / "bi" / "query_encoder")), toy_cross().tokenizer
    assert bare.sep_token_id not in bare("north gate", "harbour")["input_ids"]
    made = with_separator(bare)
    for query, passage in PAIRS:
        assert made(query, passage)["input_ids"] == whole(query, passage)["input_ids"]
        found, wanted = (t(query, passage, return_token_type_ids=True) for t in (made, whole))
        assert found["token_type_ids"] == wanted["token_type_ids"]
    assert bare.sep_token_id not in bare("north gate", "harbour")["input_ids"], "the bi-encoder's stays as it is"
    assert with_separator(whole) is whole


def scores(checkpoint: CrossCheckpoint) -> list[float]:
    table = PairTokenizer(checkpoint.tokenizer, checkpoint.model)(PAIRS)
    with torch.inference_mode():
        found: list[float] = checkpoint.model.eval()(table.batch(np.arange(len(PAIRS)), CPU)).tolist()
    return found


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_is_loaded_scores_as_what_was_saved(tmp_path: Path, pooling: str) -> None:
    checkpoint = toy_cross(pooling=pooling, max_length=20, types=pooling == "mean")
    checkpoint.stage, checkpoint.epoch, checkpoint.step = "reranker", 2, 34
    checkpoint.metrics, checkpoint.trainer = {"cross.recall@1": 0.5}, {"position": {"step": 34}}
    save_checkpoint(tmp_path / "step", checkpoint)
    loaded = load_cross(tmp_path / "step", with_trainer=True)
    assert scores(loaded) == scores(checkpoint)
    for name in ("stage", "epoch", "step", "metrics", "trainer"):
        assert getattr(loaded, name) == getattr(checkpoint, name)
    assert loaded.model.settings == checkpoint.model.settings
    assert load_cross(tmp_path / "step").trainer is None
    assert kind_of(tmp_path / "step") == CROSS_ENCODER
    assert {p.name for p in tmp_path.iterdir()} == {"step"}


@pytest.mark.parametrize("types", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_card_opens_it_without_m3gal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pooling: str, types: bool
) -> None:
    checkpoint = toy_cross(pooling=pooling, max_length=20, types=types)
    save_checkpoint(tmp_path / "step", checkpoint)
    [code] = re.findall(r"```python\n(.*?)```", (tmp_path / "step" / "README.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path / "step")
    names: dict[str, Any] = {}
    exec(code, names)
    for query, passage in PAIRS:
        [found] = names["scores"](query, [passage]).tolist()
        assert found == pytest.approx(by_definition(checkpoint, query, passage), abs=1e-5)


def test_the_kinds_are_told_apart_both_ways(tmp_path: Path) -> None:
    bi, cross = tmp_path / "bi", tmp_path / "cross"
    save_checkpoint(bi, toy_checkpoint())
    save_checkpoint(cross, toy_cross())
    with pytest.raises(InputError, match="is a cross-encoder, and a bi-encoder is wanted") as caught:
        load_checkpoint(cross)
    assert "--reranker" in (caught.value.hint or "")
    with pytest.raises(InputError, match="is a cross-encoder, and a bi-encoder is wanted"):
        poi_sources(cross)
    with pytest.raises(InputError, match="is a bi-encoder, and a cross-encoder is wanted") as caught:
        load_cross(bi)
    assert "--checkpoint" in (caught.value.hint or "")
    assert (kind_of(bi), kind_of(tmp_path)) == (BI_ENCODER, None)


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        meta = json.loads((path / "m3gal.json").read_text())
        (path / "m3gal.json").write_text(json.dumps(change(meta) or meta))

    return damage


def cut(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:-20])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: (path / "m3gal.json").unlink(), "is no checkpoint"),
        (lambda path: (path / "score.safetensors").unlink(), "damaged"),
        (cut("score.safetensors"), "damaged"),
        (cut("cross_encoder/model.safetensors"), "damaged"),
        (cut("m3gal.json"), "damaged"),
        (edit(lambda meta: meta.update(format=9)), "format 9, this m3gal reads 1"),
        (edit(lambda meta: meta.update(kind="poem")), "is a poem, and a cross-encoder is wanted"),
        (edit(lambda meta: [meta]), "damaged"),
        (edit(lambda meta: meta["settings"].update(colour="blue")), "damaged"),
        (edit(lambda meta: meta.pop("settings") and None), "damaged"),
        (lambda path: (path / "cross_encoder" / "config.json").unlink(), "no config.json"),
        (lambda path: (path / "cross_encoder" / "tokenizer.json").write_text("{}"), "cannot load the text encoder"),
    ],
)
def test_bad_checkpoints(tmp_path: Path, damage: Callable[[Path], Any], words: str) -> None:
    save_checkpoint(tmp_path / "step", toy_cross())
    damage(tmp_path / "step")
    with pytest.raises(InputError, match=words) as caught:
        load_cross(tmp_path / "step")
    assert str(tmp_path / "step") in caught.value.render()
    assert caught.value.hint


def test_weights_of_another_width(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", toy_cross())
    save_checkpoint(tmp_path / "b", toy_cross(hidden=32))
    (tmp_path / "b" / "score.safetensors").rename(tmp_path / "a" / "score.safetensors")
    with pytest.raises(InputError, match=r"another width: score.weight is \(1, 32\), the encoder's is \(1, 16\)"):
        load_cross(tmp_path / "a")


def test_a_pair_needs_room() -> None:
    with pytest.raises(InputError, match="max_length 7 leaves a pair of texts no room"):
        toy_cross(max_length=7)
