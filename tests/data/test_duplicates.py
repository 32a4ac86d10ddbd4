"""The definition of equal POIs, for keys, rows and tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from m3gal_cli.data.duplicates import distinct_pois, first_equal_rows, place_key


def test_a_key_is_the_trimmed_text_and_degrees_to_a_decimetre() -> None:
    assert place_key(" 东门 ", 120.12345601, 30.0) == place_key("东门", 120.123456, 30.0)
    assert place_key("东门", 120.123457, 30.0) != place_key("东门", 120.123456, 30.0)
    assert place_key("东门", 120.123456, 30.0) != place_key("北门", 120.123456, 30.0)


def test_the_key_of_numpy_numbers_is_that_of_python_numbers() -> None:
    values = np.round(np.random.default_rng(0).uniform(24, 25, 2000), 6) + 5e-7
    assert {place_key("a", v, v) for v in values} == {place_key("a", v, v) for v in values.tolist()}


def test_rows_are_equal_in_text_and_coordinates() -> None:
    rng = np.random.default_rng(1)
    text, lng, lat = rng.integers(0, 3, 60), rng.integers(0, 3, 60) / 7, rng.integers(0, 2, 60) / 7
    rows = list(zip(text, lng, lat, strict=True))
    assert first_equal_rows(text, lng, lat).tolist() == [rows.index(row) for row in rows]
    table = pd.DataFrame({"poi_id": range(60), "address": text.astype(str), "lng": lng, "lat": lat})
    assert distinct_pois(table)["poi_id"].tolist() == [i for i, row in enumerate(rows) if rows.index(row) == i]
    nearly = pd.DataFrame({"address": ["a", "a"], "lng": [0.0, 1e-9], "lat": [0.0, 0.0]})
    assert len(distinct_pois(nearly)) == 2
