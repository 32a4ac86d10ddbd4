"""Join the views of many cities to one balanced view table, with more languages and more typing errors."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from m3gal_cli.data.records import read_records
from m3gal_cli.data.tables import views_writer
from m3gal_cli.osm.noise import typo
from m3gal_cli.text.normalise import reading_key

REPEATS = 2  # a city of fewer pairs is repeated at most this often
SHORTEST_PREFIX = 8  # characters
NOT_TYPED = ("old_name", "operator")  # keys of other names that nobody types


@dataclass(frozen=True)
class Mixture:
    """Size of the joined table, and shares of the first views that are changed.

    Attributes:
        most: Largest number of pairs per city; large cities are sampled.
        typos: Share with one or two more typing errors.
        prefixes: Share without the end of the text.
    """

    most: int
    typos: float
    prefixes: float


def join_views(folders: list[Path], out: Path, mixture: Mixture, seed: int = 2023) -> dict[str, int]:
    """Write same_poi_views_joined.csv from the outputs of ``m3gal data osm``; return the number of pairs by city.

    Args:
        folders: One folder per city; the name of the folder is the suffix of its files.
        out: Folder of the joined table.
        mixture: Size and changes.
        seed: Random seed of the samples and edits.
    """
    rng, parts, counts = random.Random(seed), [], {}
    for folder in folders:
        views = _views(folder, rng)
        wanted = min(mixture.most, REPEATS * len(views))
        repeated = pd.concat([views] * (1 + wanted // (len(views) + 1)))
        part = repeated.sample(min(wanted, len(repeated)), random_state=seed)
        part["group"] = folder.name + ":" + part["group"].astype(str)
        parts.append(part)
        counts[folder.name] = len(part)
    joined = pd.concat(parts).sample(frac=1.0, random_state=seed).reset_index(drop=True)
    joined["group"] = pd.factorize(joined["group"])[0]
    held_out = {key for folder in folders for key in _held_out(folder)}
    edited = ((text, _mistyped(text, rng, mixture)) for text in joined["address1"])
    joined["address1"] = [text if reading_key(typed) in held_out else typed for text, typed in edited]
    with views_writer(out / "same_poi_views_joined.csv") as writer:
        writer.write(joined)
    return counts


def _views(folder: Path, rng: random.Random) -> pd.DataFrame:
    """Return the pairs of a city, with pairs of names in other languages, but no held-out text."""
    name = folder.name
    views = pd.read_parquet(folder / f"same_poi_views_{name}.parquet")
    pois = pd.read_parquet(folder / f"poi_database_{name}.parquet").set_index("poi_id")["address"]
    held_out = _held_out(folder)
    rows = []
    for place in pd.read_parquet(folder / f"facts_{name}.parquet").to_dict("records"):
        others = json.loads(place["alt_names"]) if isinstance(place["alt_names"], str) else {}
        texts = {value for key, value in others.items() if key not in NOT_TYPED and value != place["name"]}
        for text in sorted(texts):
            where = rng.choice(["", place["street"], place["district"]])
            typed = f"{text} {where}" if isinstance(where, str) and where else text
            if not held_out & {reading_key(text), reading_key(typed)} and place["poi_id"] in pois.index:
                row = {"address1": typed, "address2": pois[place["poi_id"]], "kind1": "other_name", "kind2": "poi"}
                rows.append(row | {column: place[column] for column in ("lng", "lat", "poi_id", "group")})
    return pd.concat([views, pd.DataFrame(rows)]) if rows else views


def _held_out(folder: Path) -> set[str]:
    """Return the reading keys of the queries of validation and test of a city."""
    files = (folder / f"{split}_dataset_use_gis_{folder.name}.jsonl" for split in ("val", "test"))
    return {reading_key(record.query) for file in files for record in read_records(file)}


def _mistyped(text: str, rng: random.Random, mixture: Mixture) -> str:
    """Return a text, in some cases with one or two edits, or without its end."""
    drawn = rng.random()
    if drawn < mixture.prefixes and len(text) > SHORTEST_PREFIX:
        return text[: max(SHORTEST_PREFIX, int(len(text) * rng.uniform(0.6, 0.95)))].rstrip()
    if drawn < mixture.prefixes + mixture.typos:
        text = typo(text, rng)
        return typo(text, rng) if rng.random() < 0.3 else text
    return text
