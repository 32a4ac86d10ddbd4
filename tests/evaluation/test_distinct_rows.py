"""Rows ordered by location and texts numbered by first occurrence, against sorting in Python."""

from __future__ import annotations

import numpy as np
import pandas as pd

from m3gal_cli.core.model_settings import Normalizer
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.evaluation.distinct_rows import DistinctRows
from tests.helpers.toy_models import ToyEncoder, toy_checkpoint


def test_rows_are_ordered_by_location_and_texts_by_first_row() -> None:
    draw = np.random.default_rng(60)
    number, encoder = draw.integers(0, 7, 60), ToyEncoder()
    texts = [f"poi {i}" for i in draw.integers(0, 9, 60)]
    pois = pd.DataFrame({"address": texts, "lng": 120 - number % 3 / 10, "lat": 30 + number / 10})
    rows = DistinctRows(pois, encoder)
    keys = list(zip(pois["lng"], pois["lat"], strict=True))
    order = sorted(range(60), key=lambda i: (*keys[i], i))
    assert rows.order.tolist() == order
    places = sorted(set(keys))
    assert [places[i] for i in rows.location] == keys
    assert rows.n_locations == len(places)
    for i, place in enumerate(places):
        assert {keys[row] for row in rows.order[rows.starts[i] : rows.starts[i + 1]]} == {place}
    texts = list(dict.fromkeys(pois["address"][i] for i in order))
    assert list(rows.texts) == texts
    assert [texts[i] for i in rows.text] == pois["address"].tolist()
    expected = encoder.encode_locations([places[3][0], places[1][0]], [places[3][1], places[1][1]])
    assert (rows.location_vectors(np.array([3, 1]), encoder) == expected).all()


def test_locations_with_equal_normalised_coordinates_are_one() -> None:
    """Far from the centre of the z-score, float32 does not resolve a decimetre."""
    encoder = TorchEncoder(toy_checkpoint(normalizer=Normalizer(0, 0.1, 0, 0.1)))
    pois = pd.DataFrame({"address": ["a", "b", "c"], "lng": [120.0, 120.0 + 1e-6, 121.0], "lat": [30.0] * 3})
    assert DistinctRows(pois, encoder).location.tolist() == [0, 0, 1]
