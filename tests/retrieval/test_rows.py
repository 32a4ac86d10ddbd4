"""Rows by place, texts by first appearance: against sorting in Python."""

from __future__ import annotations

import numpy as np
import pandas as pd
from toy import ToyEmbedder, toy_checkpoint

from m3gal_cli.core.settings import Normalizer
from m3gal_cli.retrieval.embed import Embedder
from m3gal_cli.retrieval.rows import PoiRows


def table(count: int) -> pd.DataFrame:
    draw = np.random.default_rng(count)
    place = draw.integers(0, 7, count)
    columns = {"address": [f"poi {i}" for i in draw.integers(0, 9, count)]}
    return pd.DataFrame(columns | {"lng": 120 - place % 3 / 10, "lat": 30 + place / 10})


def test_order_and_numbers() -> None:
    pois, embedder = table(60), ToyEmbedder()
    rows = PoiRows(pois, embedder)
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
    wanted = embedder.locations([places[3][0], places[1][0]], [places[3][1], places[1][1]])
    assert (rows.vectors_of_places(np.array([3, 1]), embedder) == wanted).all()


def test_rows_of_one_place_are_told_by_the_first_of_them() -> None:
    pois = table(60)
    keys = list(pois.itertuples(index=False, name=None))
    firsts = PoiRows(pois, ToyEmbedder()).firsts()
    assert firsts.tolist() == [keys.index(key) for key in keys]
    assert len(set(firsts.tolist())) == len(pois.drop_duplicates()) < 60


def test_places_that_are_one_to_the_model_are_one() -> None:
    """Far from where the z-score is fitted, float32 does not tell a decimetre."""
    embedder = Embedder(toy_checkpoint(normalizer=Normalizer(0, 0.1, 0, 0.1)))
    pois = pd.DataFrame({"address": ["a", "b", "c"], "lng": [120.0, 120.0 + 1e-6, 121.0], "lat": [30.0] * 3})
    assert PoiRows(pois, embedder).place.tolist() == [0, 0, 1]
