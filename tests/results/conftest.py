"""A made-up GeoTES folder, small enough that all folds of a cheap method take a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.sample_town import PLACES, place, record, write_csv, write_lines

TRAIN, DEV = 30, 10


@pytest.fixture
def geotes(tmp_path: Path) -> Path:
    """Write a GeoTES folder in which some queries share a gold POI and the table holds one POI twice."""
    folder = tmp_path / "geotes"
    folder.mkdir()
    words = [place(i)[0].split() for i in range(TRAIN + DEV)]  # every third query names only the category
    rows = [record(i, query=f"{' '.join(w if i % 3 else w[:1])} no. {i}") for i, w in enumerate(words)]
    write_lines(folder / "train_dataset.jsonl", rows[:TRAIN])
    write_lines(folder / "dev_dataset.jsonl", rows[TRAIN:])
    write_csv(folder / "poi_database.csv", ["address", "lng", "lat"], [list(place(i)) for i in range(PLACES + 1)])
    return folder
