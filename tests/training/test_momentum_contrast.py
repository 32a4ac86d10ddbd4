"""Momentum contrast: place numbers of rows, parameter groups, training steps; ids and attribution of the data."""

from __future__ import annotations

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
from m3gal_cli.training.initial_model import new_model
from m3gal_cli.training.objectives.momentum_contrast import MomentumContrast, place_ids
from m3gal_cli.training.pipelines import OSM_ATTRIBUTION, training_data_of, with_place_ids
from tests.helpers.sample_town import views

CPU = torch.device("cpu")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("columns", [(), ("poi_id",), ("poi_id", "group")], ids=str)
def test_place_ids_are_connected_components(seed: int, columns: tuple[str, ...]) -> None:
    """Rows are connected by a place (id, else coordinates), a group, or a text in either column."""
    random = np.random.default_rng([seed, len(columns)])
    count = 60
    places, texts = random.integers(0, 80, count), random.integers(0, 200 + 40 * (seed % 3), (count, 2))
    frame = pd.DataFrame({"address1": texts[:, 0].astype(str), "address2": texts[:, 1].astype(str)})
    frame = frame.assign(lng=places // 2 / 100, lat=(places % 2) / 100)  # places differ in lng or in lat
    if columns:  # ids that do not correspond to the coordinates
        places = random.integers(0, 80, count)
        frame["poi_id"] = [f"n{p}" for p in places]
    groups = random.integers(0, 200, count) if "group" in columns else np.arange(count)
    if "group" in columns:
        frame["group"] = groups
    common = (places[:, None] == places) | (groups[:, None] == groups)
    common |= (texts[:, None, :, None] == texts[None, :, None, :]).any((2, 3))
    connected = np.linalg.matrix_power(common.astype(float), count) > 0
    assert 1 < len(np.unique(connected, axis=0)) < count, "some rows are connected and some are not"
    found = place_ids(frame)
    assert np.array_equal(found[:, None] == found, connected)


def view_table() -> pd.DataFrame:
    return pd.DataFrame(views(), columns=["address1", "address2", "lng", "lat"])


def make_objective(profile: Path, **settings: Any) -> tuple[Config, Checkpoint, MomentumContrast]:
    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    config = load_config(str(profile), {"model.scratch.dropout": 0.0} | overrides)
    frame = view_table()
    texts = [*frame["address1"], *frame["address2"]]
    checkpoint = new_model(config, frame["lng"].to_numpy(), frame["lat"].to_numpy(), texts)
    tokenize = TextTokenizer(checkpoint.tokenizer, checkpoint.model.settings, 512)
    return config, checkpoint, MomentumContrast(checkpoint.model, tokenize, frame, config)


@pytest.mark.parametrize("negatives", ["queue", "fresh"])
@pytest.mark.parametrize("mask_same_place", [True, False])
def test_two_steps_equal_their_definition(profile: Path, negatives: str, mask_same_place: bool) -> None:
    """EMA, keys, logits against the queue as it was before the step, enqueue."""
    config, checkpoint, objective = make_objective(
        profile, momentum__location_negatives=negatives, momentum__mask_same_place=mask_same_place
    )
    model, T = checkpoint.model, config.momentum.temperature  # noqa: N806
    with torch.no_grad():  # query and key encoders differ, so that the order of the parts matters
        for p in [*model.encoder_q.parameters(), *model.gc_encoder.parameters()]:
            p.add_(0.05 * torch.randn_like(p))
    objective.start_epoch(1)
    averaged = [(k, q, 0.9) for k, q in zip(model.encoder_k.parameters(), model.encoder_q.parameters(), strict=True)]
    locations = zip(model.gc_encoder_shadow.parameters(), model.gc_encoder.parameters(), strict=True)
    averaged += [(k, q, 0.8) for k, q in locations]  # the ramp: 2 x 0.4, below the target 0.9
    frame = view_table()
    model.eval()
    seen: list[tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]] = []
    for rows in (np.arange(0, 10), np.arange(5, 15)):  # the places of rows 5 to 9 are in the queue already
        wanted = [(k, m * k.data + (1 - m) * q.data) for k, q, m in averaged]
        losses = objective.step(model, rows, CPU)
        for key, value in wanted:
            torch.testing.assert_close(key.data, value, atol=1e-6, rtol=0)
        with torch.no_grad():
            ids = [objective.tokenize(list(frame[c].iloc[rows])).pad() for c in ("address1", "address2")]
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
        objective.after_backward()
        assert {n: v.item() for n, v in losses._asdict().items()} == pytest.approx(total, abs=2e-5)
    assert int(objective.queue.filled) == 20
    torch.testing.assert_close(objective.queue.queue[:, :20], torch.stack([s[0] for s in seen]).T, atol=1e-6, rtol=0)


def test_the_separate_loss_gives_the_query_encoder_the_gradients_of_the_text_loss(profile: Path) -> None:
    settings = {"momentum__location_temperature": 0.5, "model__location_weight": 0.25}
    grads: dict[str, dict[str, torch.Tensor]] = {}
    for kind in ("separate", "text", "location"):
        _, checkpoint, objective = make_objective(profile, optim__loss=kind, **settings)
        objective.step(checkpoint.model, np.arange(16), CPU)
        objective.after_backward()
        losses = objective.step(checkpoint.model, np.arange(16, 32), CPU)
        torch.testing.assert_close(losses.separate, losses.text + losses.location)
        getattr(losses, kind).backward()
        grads[kind] = {n: p.grad for n, p in checkpoint.model.named_parameters() if p.grad is not None}
    for name, own in grads["separate"].items():
        if name.startswith("encoder_q."):
            torch.testing.assert_close(own, grads["text"][name])
        else:  # the location loss has a temperature of its own: 0.5
            assert name.startswith("gc_encoder.")
            assert not torch.allclose(own, grads["location"][name])


def test_ids_come_from_the_parquet_twin_if_it_has_the_same_rows(tmp_path: Path) -> None:
    frame = view_table()
    ids = [f"n{i // 2}" for i in range(len(frame))]
    path = tmp_path / "same_poi_views_town.csv"
    assert "poi_id" not in with_place_ids(frame, path).columns
    frame.assign(poi_id=ids, group=7).to_parquet(path.with_suffix(".parquet"))
    found = with_place_ids(frame, path)
    assert found["poi_id"].tolist() == ids
    assert set(found["group"]) == {7}
    assert set(with_place_ids(frame.assign(poi_id="own"), path)["poi_id"]) == {"own"}, "own ids take precedence"
    for other in (frame.iloc[::-1].reset_index(drop=True), frame.iloc[1:]):
        assert "poi_id" not in with_place_ids(other, path).columns, "the twin has other rows"


def test_openstreetmap_is_credited_if_all_place_ids_are_its_own() -> None:
    assert training_data_of(["n1", "w23", "r456"]).attribution == (OSM_ATTRIBUTION,)
    for ids in (["n1", "7"], ["n1", None], []):
        assert training_data_of(ids).attribution == ()
