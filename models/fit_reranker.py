"""Fit the reranker of the packaged model on held-out queries of many cities, and save its weights in the package."""

from __future__ import annotations

from pathlib import Path

from m3gal_cli.data.records import read_records
from m3gal_cli.encoders.packaged_encoder import PackagedEncoder
from m3gal_cli.poi_source import read_pois
from m3gal_cli.rerank.fit import fit
from m3gal_cli.rerank.weights import RerankerWeights
from m3gal_cli.training.reranker_fit import collect_examples

MAX_QUERIES = 150  # per city, so that no city has most of the queries
SEED = 2023


def fit_reranker(package: Path, folders: list[Path]) -> RerankerWeights:
    """Fit the weights on validation queries, on which the encoder was not trained, and save them.

    Args:
        package: Folder of the packaged model.
        folders: Outputs of ``m3gal data osm``; the name of a folder is the suffix of its files.
    """
    encoder, examples = PackagedEncoder(package), []
    for folder in folders:
        records = read_records(folder / f"val_dataset_use_gis_{folder.name}.jsonl")[:MAX_QUERIES]
        pois = read_pois(folder / f"poi_database_{folder.name}.parquet")
        examples += collect_examples(records, pois, encoder, SEED, lambda done, total: None)
    weights = RerankerWeights.of(fit(examples), len(examples))
    weights.save(package)
    return weights
