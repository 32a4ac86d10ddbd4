"""An invented town of 32 places on which a training takes less than a second: tables, records and a profile."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tests.helpers.cli import Answer, done, m3gal

KINDS = ("cafe", "bakery", "school", "library", "pharmacy", "hotel", "museum", "station")
STREETS = ("north street", "harbour road", "mill lane", "castle hill")
PLACES, VIEWS, BATCH = 32, 64, 16
STEPS = VIEWS // BATCH  # per epoch of pretraining
SPLITS = {"train": 16, "val": 12, "test": 8}

PROFILE = """\
seed: 7
device: cpu
data: {dir: FOLDER}
model:
  text_encoder: scratch
  max_length: 24
  scratch: {vocab_size: 300, hidden: 16, layers: 1, heads: 2, dropout: 0.1}
momentum: {queue_size: 40, text: 0.9, location: 0.9, location_increment: 0.4, temperature: 0.1}
optim: {precision: fp32, name: adamw, lr: 0.01, location_lr: 0.01, epochs: 3, batch_size: 16}
run: {print_freq: 1, tensorboard: false}
eval: {rerank: false}
"""


def train(stage: str, profile: Path, name: str, *options: object) -> Answer:
    """Run ``m3gal STAGE`` with a profile of the town; the runs are in ``runs`` beside the profile."""
    given = ("--config", profile, "--runs-dir", profile.parent / "runs", "--run-name", name)
    return m3gal(stage, *given, *options)


def place(i: int) -> tuple[str, float, float]:
    """Return address, lng, lat of a place; all addresses and all coordinates differ."""
    i %= PLACES
    address = f"{KINDS[i % 8]} {STREETS[i // 8]} {3 + 2 * i}"
    return address, round(24.9 + 0.013 * (i % 6), 6), round(60.1 + 0.011 * (i // 6), 6)


def views() -> list[list[Any]]:
    """Return address1, address2, lng, lat: two pairs per place."""
    rows: list[list[Any]] = []
    for i in range(PLACES):
        kind, street = KINDS[i % 8], STREETS[i // 8]
        rows += [[f"{street} {kind}", *place(i)], [f"{kind} {3 + 2 * i}", *place(i)]]
    return rows


def record(i: int, negatives: int = 5, **changes: Any) -> dict[str, Any]:
    """Return a record with a query for place i; the query location is the next place."""
    _, lng, lat = place(i + 1)
    others = [(i + 3 * j + 1) % PLACES for j in range(negatives)]
    query = f"{STREETS[i % PLACES // 8]} {KINDS[i % 8]}"
    row = {"query": query, "query_gis": [query, f"{lng},{lat}"], "positive_passages": [passage(i)]}
    return row | {"negative_passages": [passage(j) for j in others]} | changes


def passage(i: int) -> dict[str, Any]:
    address, lng, lat = place(i)
    return {"docid": str(i % PLACES), "text": address, "gis": [[], address, f"{lng},{lat}"]}


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_lines(path: Path, rows: list[Any]) -> Path:
    """Write one JSON object per line; a string is written unchanged."""
    text = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(line + "\n" for line in text), encoding="utf-8")
    return path


def write_town(folder: Path) -> Path:
    """Write all files of the town under the published names and a profile ``tiny.yaml``; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "same_poi_views_town.csv", ["address1", "address2", "lng", "lat"], views())
    write_csv(folder / "poi_database_town.csv", ["address", "lng", "lat"], [list(place(i)) for i in range(PLACES)])
    first = 0
    for split, count in SPLITS.items():
        write_lines(folder / f"{split}_dataset_use_gis.jsonl", [record(first + i) for i in range(count)])
        first += count
    profile = folder / "tiny.yaml"
    profile.write_text(PROFILE.replace("FOLDER", str(folder)), encoding="utf-8")
    return profile


def town_with_run(folder: Path, name: str = "only", steps: int = 1) -> Path:
    """Write ``data`` and pretrain ``runs/NAME`` in a folder; return the folder."""
    runs = ("--runs-dir", folder / "runs", "--run-name", name, "--max-steps", steps)
    done(m3gal("pretrain", "--config", write_town(folder / "data"), *runs))
    return folder
