"""Fit the reranker of the packaged model on queries of many cities, and save its weights in the package."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from m3gal_cli.data.queries import Query
from m3gal_cli.data.records import read_records
from m3gal_cli.encoders.packaged_encoder import PackagedEncoder
from m3gal_cli.poi_source import read_pois
from m3gal_cli.rerank.examples import STYLE_NAMES
from m3gal_cli.rerank.weights import RerankerWeights
from m3gal_cli.training.network_fit import Example, fit_network
from m3gal_cli.training.rehearsal import save_rehearsal
from m3gal_cli.training.reranker_examples import ExampleTable, MeantRows, sample_pool

VIEWS, REPEATS = 800, 2  # labelled queries per city, and how often each counts
TEST_CITY = "helsinki"  # its test queries are for evaluations only
MADE = 1500  # queries per city that are made from its POI table
FOREIGN = 100  # queries per city that mean POIs of other cities
POOL = 6000  # POIs per city
# Share of the examples that are repeated with few candidates. Such queries are those of a table of few POIs, or of a
# small area; without them, a query with one candidate always has "no match".
FEW_SHARE, FEW = 0.1, (1, 2, 3, 5)
SEED, FIT_SEED = 2023, 2


def fit_reranker(package: Path, folders: Sequence[Path]) -> RerankerWeights:
    """Fit the weights on queries of all cities and save them.

    Args:
        package: Folder of the packaged model.
        folders: Outputs of ``m3gal data osm``; the name of a folder is the suffix of its files.
    """
    examples, labelled, made = collect(package, folders)
    rng = random.Random(SEED)
    examples += [with_few_candidates(one, rng) for one in rng.sample(examples, int(FEW_SHARE * len(examples)))]
    weights = RerankerWeights(fit_network(examples, FIT_SEED), labelled, made)
    weights.save(package)
    save_rehearsal(package, examples, weights.arrays, SEED)
    return weights


def collect(package: Path, folders: Sequence[Path]) -> tuple[list[Example], int, int]:
    """Return the examples, and the numbers of labelled queries and of queries made from POI tables."""
    encoder = PackagedEncoder(package)
    tables = [_City(folder, encoder) for folder in folders]
    examples: list[Example] = []
    for city in tables:
        others = [query for other in tables if other is not city for query in other.made]
        foreign = random.Random(SEED).sample(others, min(FOREIGN, len(others)))
        unmeant = [MeantRows(Query(0, one.query.text), ()) for one in foreign]
        examples += city.table.examples(city.labelled) * REPEATS + city.table.examples([*city.made, *unmeant])
        print(f"{city.name}: {len(examples):,} examples", flush=True)
    return examples, sum(len(city.labelled) for city in tables), sum(len(city.made) for city in tables)


def with_few_candidates(example: Example, rng: random.Random) -> Example:
    """Return the example with as many random candidates as one of ``FEW``; one of them is gold if there is a gold."""
    gold, size = np.flatnonzero(example.gold)[:1].tolist(), len(example.gold)
    others = rng.sample(range(size), min(size, rng.choice(FEW)) - len(gold))
    rows = sorted({*gold, *others})
    features = example.features[rows]
    style = [example.style[: len(STYLE_NAMES)], features.max(axis=0), features.mean(axis=0)]
    return Example(features, np.concatenate(style), example.gold[rows])


class _City:
    """The POIs and queries of a city. The encoder was not trained on the labelled ones."""

    def __init__(self, folder: Path, encoder: PackagedEncoder) -> None:
        self.name = folder.name
        splits = ("val",) if folder.name == TEST_CITY else ("val", "test")
        files = [folder / f"{split}_dataset_use_gis_{folder.name}.jsonl" for split in splits]
        records = [record for file in files for record in read_records(file)][:VIEWS]
        pois = read_pois(folder / f"poi_database_{folder.name}.parquet")
        pool = sample_pool(records, pois, SEED, POOL)
        self.table = ExampleTable(pool, encoder, lambda done, total: None)
        self.labelled = self.table.labelled(records)
        self.made = self.table.made(MADE, SEED, other_names(folder, pois, pool))


def other_names(folder: Path, pois: pd.DataFrame, pool: pd.DataFrame) -> dict[int, list[str]]:
    """Return the names in other languages of rows of the pool."""
    facts = pd.read_parquet(folder / f"facts_{folder.name}.parquet", columns=["poi_id", "alt_names"])
    names = dict(zip(facts["poi_id"], facts["alt_names"], strict=True))
    row_of = {place: row for row, place in enumerate(pool.itertuples(index=False, name=None))}
    out: dict[int, list[str]] = {}
    for poi_id, *place in pois[["poi_id", "address", "lng", "lat"]].itertuples(index=False, name=None):
        row, found = row_of.get(tuple(place)), names.get(poi_id)
        if row is not None and isinstance(found, str):
            others = [name for key, name in json.loads(found).items() if key.startswith("name:")]
            out |= {row: others} if others else {}
    return out
