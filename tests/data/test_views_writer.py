"""View tables written in pieces: equal to one write, whole or not at all."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.tables import GEOHASH_COLUMNS, VIEW_COLUMNS, ViewsWriter, read_views, write_views

BASE32 = "0123456789bcdefghjkmnpqrstuvwxyz"


def table(n: int = 40, seed: int = 5) -> pd.DataFrame:
    """Pairs with the extra columns of ``data osm``, and texts that a .csv must quote."""
    rng = np.random.default_rng(seed)
    texts = ["a, b", 'say "x"', "康乐新村(西门)", " 12 ", "NA", "两行\n的名字"]
    return pd.DataFrame(
        {
            "address1": [f"{texts[k % 6]} {k}" for k in range(n)],
            "address2": [f"{texts[(k + 1) % 6]} row {k}" for k in range(n)],
            "lng": rng.uniform(-180, 180, n),
            "lat": rng.uniform(-90, 90, n),
            "poi_id": [f"n{k // 3}" for k in range(n)],
            "group": np.arange(n, dtype=np.int64) // 3,
            "kind1": ["name", "door"] * (n // 2),
            "kind2": ["poi"] * n,
        }
    )


@pytest.mark.parametrize("cuts", [[0, 1, 40], [0, 7, 7, 23, 40], list(range(41))])
def test_pieces_equal_one_write(tmp_path: Path, cuts: list[int]) -> None:
    views = table()
    write_views(views, tmp_path / "one.csv")
    with ViewsWriter(tmp_path / "many.csv") as writer:
        for start, end in pairwise(cuts):
            writer.write(views.iloc[start:end])
        assert not (tmp_path / "many.csv").exists()  # nothing shows before the end
    assert writer.rows == 40
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "many.csv").read_bytes()
    one, many = (pd.read_parquet(tmp_path / f"{n}.parquet") for n in ("one", "many"))
    pd.testing.assert_frame_equal(one, many)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["many.csv", "many.parquet", "one.csv", "one.parquet"]


def test_the_csv_has_the_published_columns_and_the_twin_all(tmp_path: Path) -> None:
    views = table()
    write_views(views, tmp_path / "v.csv")
    raw, twin = (
        pd.read_csv(tmp_path / "v.csv", dtype=str, keep_default_na=False),
        pd.read_parquet(tmp_path / "v.parquet"),
    )
    assert list(raw) == VIEW_COLUMNS == ["address1", "address2", "lng", "lat", *(f"geohash{n}" for n in range(1, 8))]
    assert list(twin) == [*VIEW_COLUMNS, "poi_id", "group", "kind1", "kind2"]
    for column in ("address1", "address2", "poi_id", "group", "kind1", "kind2"):
        assert twin[column].tolist() == views[column].tolist()
    for column in ("address1", "address2"):
        assert raw[column].tolist() == views[column].tolist()
    for column in ("lng", "lat"):
        assert np.abs(twin[column] - views[column]).max() <= 0.5e-7 + 1e-12
        assert raw[column].astype(float).tolist() == twin[column].tolist()
    assert raw[GEOHASH_COLUMNS].astype(int).to_numpy().tolist() == twin[GEOHASH_COLUMNS].to_numpy().tolist()
    digits = twin[GEOHASH_COLUMNS].to_numpy()
    for row in range(0, len(twin), 5):
        assert "".join(BASE32[d] for d in digits[row]) == geohash(twin["lng"][row], twin["lat"][row])


def geohash(lng: float, lat: float, length: int = 7) -> str:
    """The textbook way: halve the ranges in turn, longitude first."""
    low, high, at, bits = [-180.0, -90.0], [180.0, 90.0], (lng, lat), 0
    for n in range(5 * length):
        axis = n % 2
        middle = (low[axis] + high[axis]) / 2
        bits = bits * 2 + (at[axis] >= middle)
        (low if at[axis] >= middle else high)[axis] = middle
    return "".join(BASE32[(bits >> 5 * (length - 1 - k)) & 31] for k in range(length))


def test_an_error_leaves_nothing_and_spares_what_was_there(tmp_path: Path) -> None:
    write_views(table(4), tmp_path / "old.csv")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="midway"), ViewsWriter(tmp_path / f"{name}.csv") as writer:  # noqa: PT012
            writer.write(table(10))
            raise RuntimeError("midway")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_piece_that_does_not_fit_the_first_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="kind2"), ViewsWriter(tmp_path / "v.csv") as writer:  # noqa: PT012
        writer.write(table(4))
        writer.write(table(4).drop(columns="kind2"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "v.parquet").mkdir()  # the twin cannot be put there
    with pytest.raises(Exception, match=r"v\.parquet"), ViewsWriter(tmp_path / "v.csv") as writer:
        writer.write(table(4))
    assert [p.name for p in tmp_path.iterdir()] == ["v.parquet"]


def test_packed_tables_read_back(tmp_path: Path) -> None:
    write_views(table(), tmp_path / "v.csv.gz")
    pd.testing.assert_frame_equal(
        read_views(tmp_path / "v.csv.gz")[["address1", "lng"]], read_views(tmp_path / "v.parquet")[["address1", "lng"]]
    )
