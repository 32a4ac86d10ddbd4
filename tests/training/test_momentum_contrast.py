"""Pretraining's own parts: which rows are one place, parameter groups, the order of a step's parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from m3gal_cli.config.load import load_config
from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.tokenizer import TextTokenizer
from m3gal_cli.training.initial_model import TrainingTable, new_model
from m3gal_cli.training.objectives.momentum_contrast import PretrainTask, place_ids
from m3gal_cli.training.pipelines import with_place_ids
from m3gal_cli.training.trainer import make_optimizer
from tests.helpers.sample_town import views, write_town

CPU = torch.device("cpu")


def by_union_find(rows: Sequence[tuple[object, str, str]]) -> list[list[int]]:
    """Sets of rows that share a place or, through any chain of rows, a text."""
    root = list(range(len(rows)))

    def find(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    for i, (place, *texts) in enumerate(rows):
        for j in range(i):
            if rows[j][0] == place or set(texts) & set(rows[j][1:]):
                root[find(i)] = find(j)
    return grouped([find(i) for i in range(len(rows))])


def grouped(labels: Sequence[int]) -> list[list[int]]:
    return sorted([i for i, own in enumerate(labels) if own == label] for label in set(labels))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("with_ids", [True, False])
def test_place_ids_against_union_find(seed: int, with_ids: bool) -> None:
    random = np.random.default_rng([seed, with_ids])
    count = 60
    places, texts = random.integers(0, 45, count), random.integers(0, 120 + 40 * (seed % 3), (count, 2))
    frame = pd.DataFrame({"address1": texts[:, 0].astype(str), "address2": texts[:, 1].astype(str)})
    # lng alone tells half of the places apart, lat the other half
    frame = frame.assign(lng=places // 2 / 100, lat=(places % 2) / 100)
    if with_ids:  # the ids go their own way: coordinates then say nothing
        places = random.integers(0, 45, count)
        frame["poi_id"] = [f"n{p}" for p in places]
    rows = list(zip(places.tolist(), frame["address1"], frame["address2"], strict=True))
    wanted = by_union_find(rows)
    assert 1 < len(wanted) < count, "neither all one nor all apart"
    assert grouped(place_ids(frame).tolist()) == wanted


def test_a_text_joins_places_from_either_side() -> None:
    """Row 0 and 1 by address1 = address2; 2 alone; equal lng with another lat is another place."""
    columns = ["address1", "address2", "lng", "lat"]
    frame = pd.DataFrame([["a", "b", 1, 1], ["c", "a", 2, 2], ["d", "e", 1, 2], ["f", "g", 2, 1]], columns=columns)
    assert grouped(place_ids(frame).tolist()) == [[0, 1], [2], [3]]


def test_a_group_joins_places_that_share_no_text() -> None:
    columns = ["address1", "address2", "lng", "lat", "poi_id", "group"]
    rows = [["a", "b", 1, 1, "n1", 0], ["c", "d", 2, 2, "n2", 0], ["e", "f", 3, 3, "n3", 2], ["g", "h", 1, 1, "n3", 5]]
    frame = pd.DataFrame(rows, columns=columns)
    assert grouped(place_ids(frame).tolist()) == [[0, 1], [2, 3]]


def test_the_twin_tells_the_ids_if_it_is_of_the_same_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame(views(), columns=["address1", "address2", "lng", "lat"])
    ids = [f"n{i // 2}" for i in range(len(frame))]
    path = tmp_path / "same_poi_views_town.csv"
    assert "poi_id" not in with_place_ids(frame, path).columns
    frame.assign(poi_id=ids).to_parquet(tmp_path / "same_poi_views_town.parquet")
    assert with_place_ids(frame, path)["poi_id"].tolist() == ids
    assert "group" not in with_place_ids(frame, path).columns
    frame.assign(poi_id=ids, group=7).to_parquet(tmp_path / "same_poi_views_town.parquet")
    assert with_place_ids(frame, path)["group"].tolist() == [7] * len(frame)
    own = frame.assign(poi_id="own")
    assert with_place_ids(own, path)["poi_id"].tolist() == ["own"] * len(frame), "its own ids win"
    for other in (frame.iloc[::-1].reset_index(drop=True), frame.iloc[1:]):
        assert "poi_id" not in with_place_ids(other, path).columns, "the twin is of other rows"


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_town(tmp_path_factory.mktemp("pretrain"))


def made(profile: Path, **settings: Any) -> tuple[Config, Checkpoint, PretrainTask]:
    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    config = load_config(str(profile), {"model.scratch.dropout": 0.0} | overrides)
    frame = pd.DataFrame(views(), columns=["address1", "address2", "lng", "lat"])
    texts = [*frame["address1"], *frame["address2"]]
    table = TrainingTable(frame["lng"].to_numpy(), frame["lat"].to_numpy(), texts)
    checkpoint = new_model(config, table)
    tokenize = TextTokenizer(checkpoint.tokenizer, checkpoint.model.settings, 512)
    return config, checkpoint, PretrainTask(checkpoint.model, tokenize, frame, config)


def test_groups_of_the_published_recipe(profile: Path) -> None:
    """Location first; decay 1e-4 there and 0 on text. A step with no gradient shows what the optimiser makes of it."""
    settings = {"optim__name": "sgd", "optim__weight_decay": 0, "optim__location_weight_decay": 1e-4}
    config, checkpoint, task = made(profile, **settings, optim__lr=0.5, optim__location_lr=0.25)
    paper = load_config("paper.yaml").optim
    assert (paper.weight_decay, paper.location_weight_decay) == (0, 1e-4)
    assert (paper.name, paper.momentum) == ("sgd", 0.9)
    model = checkpoint.model
    location, text = task.groups()
    assert [(g.name, g.lr, g.weight_decay) for g in (location, text)] == [("location", 0.25, 1e-4), ("text", 0.5, 0)]
    assert [id(p) for p in location.parameters] == [id(p) for p in model.gc_encoder.parameters()]
    trained = {n: p for n, p in model.encoder_q.named_parameters() if ".pooler." not in n}
    assert [id(p) for p in text.parameters] == [id(p) for p in trained.values()]
    optimizer = make_optimizer(config, [location, text])
    before = [p.detach().clone() for g in (location, text) for p in g.parameters]
    for group in (location, text):
        for p in group.parameters:
            p.grad = torch.zeros_like(p)
    optimizer.step()
    after = [p.detach() for g in (location, text) for p in g.parameters]
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        wanted = old * (1 - 0.25 * 1e-4) if i < len(location.parameters) else old
        torch.testing.assert_close(new, wanted, atol=2e-8, rtol=1e-6)
        assert torch.equal(new, old) == (i >= len(location.parameters) or not old.any())


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
def test_who_takes_gradients(profile: Path, pooling: str) -> None:
    """Query and location encoder; the key encoders never; the pooler only where it is used."""
    _, checkpoint, task = made(profile, model__pooling=pooling)
    losses = task.step(checkpoint.model, np.arange(16), CPU)
    task.finish()
    losses = task.step(checkpoint.model, np.arange(16, 32), CPU)
    losses.fused.backward()
    for name, p in checkpoint.model.named_parameters():
        trained = name.startswith(("encoder_q.", "gc_encoder.")) and (pooling == "pooler" or ".pooler." not in name)
        assert (p.grad is not None) == trained, name
        assert p.requires_grad == trained, name


def test_freeze(profile: Path) -> None:
    _, checkpoint, task = made(profile, optim__freeze=["word_embeddings", "mlp.0."])
    chosen = {id(p) for g in task.groups() for p in g.parameters}
    frozen = 0
    for name, p in checkpoint.model.named_parameters():
        if not name.startswith(("encoder_q.", "gc_encoder.")) or ".pooler." in name:
            continue
        kept = "word_embeddings" in name or "mlp.0." in name
        frozen += kept
        assert (id(p) in chosen) is not kept, name
        assert p.requires_grad is not kept, name
    assert frozen == 3  # one table, one matrix, one bias


@pytest.mark.parametrize("negatives", ["queue", "fresh"])
@pytest.mark.parametrize("mask_same_place", [True, False])
def test_two_steps_against_the_definition(profile: Path, negatives: str, mask_same_place: bool) -> None:
    """EMA first, then keys, then logits against the queue as it was before the step, then enqueue."""
    config, checkpoint, task = made(
        profile, momentum__location_negatives=negatives, momentum__mask_same_place=mask_same_place
    )
    model, T = checkpoint.model, config.momentum.temperature  # noqa: N806
    with torch.no_grad():  # queries and keys apart, so that the order of the parts shows
        for p in [*model.encoder_q.parameters(), *model.gc_encoder.parameters()]:
            p.add_(0.05 * torch.randn_like(p))
    task.start_epoch(1)
    m = {"encoder_k": 0.9, "gc_encoder_shadow": 0.8}  # the ramp: 2 x 0.4, below the target 0.9
    online = {"encoder_k": model.encoder_q, "gc_encoder_shadow": model.gc_encoder}
    frame = pd.DataFrame(views(), columns=["address1", "address2", "lng", "lat"])
    model.eval()
    seen: list[tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]] = []
    for rows in (np.arange(0, 10), np.arange(5, 15)):  # rows 5 to 9 meet their own places in the queue
        wanted = {}
        for name, factor in m.items():
            for key, p in getattr(model, name).named_parameters():
                q = dict(online[name].named_parameters())[key]
                wanted[f"{name}.{key}"] = factor * p.detach() + (1 - factor) * q.detach()
        losses = task.step(model, rows, CPU)
        for key, value in wanted.items():
            torch.testing.assert_close(model.get_parameter(key), value, atol=1e-6, rtol=0)
        with torch.no_grad():
            ids = [task.tokenize(list(frame[c].iloc[rows])).pad() for c in ("address1", "address2")]
            q, k = model.embed_query(*ids[0]), model.embed_poi_text(*ids[1])
            z = torch.from_numpy(model.settings.normalizer(frame["lng"].iloc[rows], frame["lat"].iloc[rows]))
            g, g_key = model.embed_location(z), model.embed_poi_location(z)
            total = {"text": 0.0, "location": 0.0, "fused": 0.0}
            for i, row in enumerate(rows):
                others = [s for s in seen if not (mask_same_place and s[2] == row // 2)]
                text = torch.stack([q[i] @ k[i], *(q[i] @ s[0] for s in others)]) / T
                olds = [s[1] if negatives == "queue" else model.embed_location(s[3][None])[0] for s in others]
                place = torch.stack([q[i] @ g[i], *(q[i] @ old for old in olds)]) / T
                for kind, logits in (("text", text), ("location", place), ("fused", text + place)):
                    total[kind] += float(F.cross_entropy(logits[None], torch.tensor([0]))) / len(rows)
            seen += [(k[i], g_key[i], row // 2, z[i]) for i, row in enumerate(rows)]
        task.finish()
        assert {n: v.item() for n, v in losses._asdict().items()} == pytest.approx(total, abs=2e-5)
    assert int(task.queue.filled) == 20
    torch.testing.assert_close(task.queue.queue[:, :20], torch.stack([s[0] for s in seen]).T, atol=1e-6, rtol=0)


def test_apart_the_location_learns_from_queries_that_it_does_not_change(profile: Path) -> None:
    """Gradients of the text encoder are those of the text loss alone, those of the location encoder its own loss's."""
    settings = {"momentum__location_temperature": 0.5, "model__location_weight": 0.25}
    grads: dict[str, dict[str, torch.Tensor]] = {}
    for kind in ("separate", "text", "location"):
        config, checkpoint, task = made(profile, optim__loss=kind, **settings)
        task.step(checkpoint.model, np.arange(16), CPU)
        task.finish()
        losses = task.step(checkpoint.model, np.arange(16, 32), CPU)
        torch.testing.assert_close(losses.separate, losses.text + losses.location)
        getattr(losses, kind).backward()
        grads[kind] = {n: p.grad for n, p in checkpoint.model.named_parameters() if p.grad is not None}
        assert config.optim.loss == kind
    for name, own in grads["separate"].items():
        if name.startswith("encoder_q."):
            torch.testing.assert_close(own, grads["text"][name])
        else:  # at T 0.5 instead of the profile's: a loss of its own
            assert name.startswith("gc_encoder.")
            assert not torch.allclose(own, grads["location"][name])
