"""The model card: its code gives the vectors of the checkpoint, and it states metrics, data and licence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.model_card import TrainingData, model_card, with_metrics
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from tests.helpers.toy_models import LONG_TEXTS, encode_both_sides, toy_checkpoint


def test_code_of_cards_gives_our_vectors(saved_kinds: tuple[Path, Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    """The code uses sentence-transformers, transformers and numpy, in the folder of the checkpoint."""
    path, checkpoint = saved_kinds
    monkeypatch.chdir(path)
    card = (path / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", card, flags=re.M | re.S)
    sentence, plain, location = ({} for _ in range(3))
    for block, names in zip(blocks, (sentence, plain, location), strict=True):
        exec(block, names)
    query, poi = ["north gate of the harbour mall"], ["Harbour Mall, north gate"]
    for name, folder, texts in (("query", "query_encoder", query), ("poi", "poi_encoder", poi)):
        wanted = encode_both_sides(checkpoint, texts)[folder]
        assert all(np.abs(np.asarray(names[name]) - wanted).max() < 1e-6 for names in (sentence, plain))
    settings = checkpoint.model.settings
    for name, prefix in (("query_encoder", settings.query_prefix), ("poi_encoder", settings.passage_prefix)):
        vectors = plain["text_vectors"](name, prefix, LONG_TEXTS)
        assert np.abs(vectors.numpy() - encode_both_sides(checkpoint, LONG_TEXTS)[name]).max() < 1e-6
    draw = np.random.default_rng(3)
    lng, lat = 120.2 + 0.2 * draw.standard_normal(300), 30.3 + 0.2 * draw.standard_normal(300)
    vectors = location["location_vectors"]("location_encoder", lng, lat)
    # Tens of kilometres from the mean point, float32 keeps five digits of a phase.
    tolerance = 1e-4 if settings.location_encoder == "fourier" else 2e-6
    assert abs(vectors - TorchEncoder(checkpoint).encode_locations(lng, lat)).max() < tolerance


def card_of(data: dict[str, Any] | None = None, metrics: dict[str, float] | None = None, **settings: Any) -> str:
    checkpoint = toy_checkpoint(**settings)
    meta = {"stage": "finetune", "step": 12, "epoch": 3, "metrics": metrics or {}, "data": data}
    return model_card(checkpoint.model, checkpoint.tokenizer, meta)


def test_the_card_states_metrics_attribution_languages_and_licence() -> None:
    metrics = {"text.recall@1": 0.25, "fused.median_error_m": 16820.4, "reranked.recall@1": 0.75}
    data = {"attribution": ["© OpenStreetMap contributors, ODbL 1.0"], "languages": ["fi", "no"], "licence": "odbl"}
    card = card_of(data, metrics, append_sep=False)
    assert "| text | 0.25 |  |\n| fused |  | 16,820 |\n| reranked | 0.75 |  |" in card
    assert "without [SEP]" in card
    assert "- © OpenStreetMap contributors, ODbL 1.0\n\nLanguages: fi, no\n" in card
    front, plain = (yaml.safe_load(text.split("---\n")[1]) for text in (card, card_of()))
    assert (front["license"], front["language"]) == ("odbl", ["fi", "no"])
    assert (plain["license"], "language" in plain) == ("unknown", False)


def test_metrics_can_be_replaced_after_the_reranker_is_fitted() -> None:
    old, new = {"fused.recall@1": 0.25}, {"fused.recall@1": 0.25, "reranked.recall@1": 0.5}
    assert with_metrics(card_of(metrics=old), new) == card_of(metrics=new)
    assert with_metrics("a card without a table", new) == "a card without a table"


def test_training_data_of_two_stages_are_joined_without_repetition() -> None:
    first = TrainingData(("© OpenStreetMap contributors",), ("zh",), "odbl")
    later = TrainingData(("GeoTES", "© OpenStreetMap contributors"), ("zh", "en"))
    assert first.joined(later) == TrainingData(("© OpenStreetMap contributors", "GeoTES"), ("zh", "en"), "odbl")
