"""Rows by place, texts by first appearance: against sorting in Python."""

from __future__ import annotations

import numpy as np
import pandas as pd

from m3gal_cli.core.model_settings import Normalizer
from m3gal_cli.encoders.encoder import TorchEncoder
from m3gal_cli.evaluation.distinct_rows import DistinctRows
from tests.helpers.toy_models import ToyEncoder, toy_checkpoint


def table(count: int) -> pd.DataFrame:
    draw = np.random.default_rng(count)
    place = draw.integers(0, 7, count)
    columns = {"address": [f"poi {i}" for i in draw.integers(0, 9, count)]}
    return pd.DataFrame(columns | {"lng": 120 - place % 3 / 10, "lat": 30 + place / 10})


def test_order_and_numbers() -> None:
    pois, encoder = table(60), ToyEncoder()
    rows = DistinctRows(pois, encoder)
    keys = list(zip(pois["lng"], pois["lat"], strict=True))
    order = sorted(range(60), key=lambda i: (*keys[i], i))
    assert rows.order.tolist() == order
    places = sorted(set(keys))
    assert [places[i] for i in rows.place] == keys
    assert rows.places == len(places)
    for i, place in enumerate(places):
        assert {keys[row] for row in rows.order[rows.starts[i] : rows.starts[i + 1]]} == {place}
    texts = list(dict.fromkeys(pois["address"][i] for i in order))
    assert list(rows.texts) == texts
    assert [texts[i] for i in rows.text] == pois["address"].tolist()
    wanted = encoder.locations([places[3][0], places[1][0]], [places[3][1], places[1][1]])
    assert (rows.vectors_of_places(np.array([3, 1]), encoder) == wanted).all()


def test_rows_of_one_place_are_told_by_the_first_of_them() -> None:
    pois = table(60)
    keys = list(pois.itertuples(index=False, name=None))
    firsts = DistinctRows(pois, ToyEncoder()).firsts()
    assert firsts.tolist() == [keys.index(key) for key in keys]
    assert len(set(firsts.tolist())) == len(pois.drop_duplicates()) < 60


def test_places_that_are_one_to_the_model_are_one() -> None:
    """Far from where the z-score is fitted, float32 does not tell a decimetre."""
    encoder = TorchEncoder(toy_checkpoint(normalizer=Normalizer(0, 0.1, 0, 0.1)))
    pois = pd.DataFrame({"address": ["a", "b", "c"], "lng": [120.0, 120.0 + 1e-6, 121.0], "lat": [30.0] * 3})
    assert DistinctRows(pois, encoder).place.tolist() == [0, 0, 1]
