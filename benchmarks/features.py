"""Measure what each feature contributes to the reranker network: recall at 1 of held-out queries without it.

    python benchmarks/features.py CITY CITY ... --data ../shared/data
    python benchmarks/features.py CITY CITY ... --without nearness_700m,nearness_2500m --without dense_score

Each CITY is an output of ``m3gal data osm``; leave out the sample city, whose queries are ranked. Networks are fitted
on queries of the cities, as that of the packaged model is: one with all features, and one without each feature, or
without those of --without. A feature that is left out is 0 for candidates and in the description of the query. The
queries of the board's sets are ranked with each network, with candidates of the packaged model.

A query without its gold among the candidates counts as a miss; ties never help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from command_line import create_parser, print_values
from numpy.typing import NDArray
from quality.sets import ADDRESS_PAIRS, LabelledSet, load_sets, set_names

from m3gal_cli.encoders.checkpoint_lookup import PACKAGED_MODEL
from m3gal_cli.encoders.packaged_encoder import PackagedEncoder
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.matching.candidate_table import query_of
from m3gal_cli.rerank.examples import STYLE_NAMES
from m3gal_cli.rerank.features import FEATURE_NAMES
from m3gal_cli.rerank.network import forward
from m3gal_cli.training.network_fit import Example, fit_network
from m3gal_cli.training.reranker_examples import ExampleTable, MeantRows
from models.fit_reranker import collect

ROOT = Path(__file__).resolve().parents[1]
SETS = [name for name in set_names() if name != ADDRESS_PAIRS]  # those with a POI table
Sets = Mapping[str, Sequence[Example]]


def set_examples(labelled: LabelledSet, encoder: PackagedEncoder) -> list[Example]:
    """Return one example of each query of a set; one without gold if no candidate is gold."""
    table, gold = ExampleTable(labelled.pois, encoder, lambda *_: None), labelled.evaluation.gold
    meant = [MeantRows(query_of(r), np.flatnonzero(g).tolist()) for r, g in zip(labelled.records, gold, strict=True)]
    return [table.examples([one])[0] for one in meant]


def without_features(examples: Sequence[Example], names: Sequence[str]) -> list[Example]:
    """Return the examples with these features set to 0."""
    keep = np.array([name not in names for name in FEATURE_NAMES], np.float64)
    style = np.concatenate([np.ones(len(STYLE_NAMES)), keep, keep])  # largest and mean values follow the style
    return [Example(example.features * keep, example.style * style, example.gold) for example in examples]


def recall(arrays: Mapping[str, NDArray[np.float32]], examples: Sequence[Example]) -> float:
    """Return the share of examples whose gold has the largest logit."""
    exact = {name: np.asarray(value, np.float64) for name, value in arrays.items()}
    logits = [forward(exact, example.features, example.style)[0] for example in examples]
    ranks = [gold_ranks(own[None], example.gold[None])[0] for own, example in zip(logits, examples, strict=True)]
    return float(np.mean(np.array(ranks) == 1))


def ablation(
    examples: Sequence[Example], sets: Sets, left_out: Sequence[str], seeds: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Return the recall of each set with all features and without some, as means over seeds.

    Args:
        examples: Those of the fit.
        sets: Examples to rank, by the name of their set.
        left_out: Names of features, separated by commas.
        seeds: Seeds of the fits.
    """
    out = {}
    for names in ["", *left_out]:
        fewer = without_features(examples, names.split(","))
        fitted = [fit_network(fewer, seed) for seed in seeds]
        ranked = {name: without_features(own, names.split(",")) for name, own in sets.items()}
        means = {name: float(np.mean([recall(arrays, own) for arrays in fitted])) for name, own in ranked.items()}
        out[f"without {names}" if names else "all"] = means
    return out


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("cities", type=Path, nargs="+", metavar="CITY", help="output of m3gal data osm")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the sets")
    parser.add_argument("--folder", type=Path, default=ROOT / "board-results", help="folder of the sample city")
    parser.add_argument("--sets", nargs="+", metavar="NAME", default=SETS, choices=SETS, help="; ".join(SETS))
    parser.add_argument("--without", action="append", metavar="NAME,NAME", help="leave out these features together")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N", help="default: 1 2 3")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    encoder = PackagedEncoder(PACKAGED_MODEL)
    sets = {own.name: set_examples(own, encoder) for own in load_sets(options.sets, options.data, options.folder)}
    examples, _, _ = collect(PACKAGED_MODEL, options.cities)
    results = ablation(examples, sets, options.without or FEATURE_NAMES, options.seeds)
    lines = {"set": " ".join(name.replace(" ", "_") for name in sets)}
    lines |= {name: " ".join(f"{value:.3f}" for value in values.values()) for name, values in results.items()}
    print_values(results if options.json else lines, options.json)


if __name__ == "__main__":
    main()
