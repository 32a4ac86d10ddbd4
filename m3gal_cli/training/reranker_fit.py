"""The weights of the hybrid score, learned on queries that the encoders were not trained on.

After a training these are the validation records, and often few. Before it the training records are such queries, too:
the weights that they teach, with the encoders as they then are, are where those of the trained encoders are looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from m3gal_cli.config.paths import find_pois, find_records
from m3gal_cli.config.schema import Config, DataConfig
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.data.queries import Query
from m3gal_cli.data.records import Record, poi_key
from m3gal_cli.data.tables import read_pois
from m3gal_cli.encoders.encoder import Progress, TorchEncoder
from m3gal_cli.rerank.features import FEATURES, Candidates, Floats, features
from m3gal_cli.rerank.linear import DEPTH, RerankerWeights
from m3gal_cli.text.document_frequencies import DocumentFrequencies
from m3gal_cli.training.objectives.candidate_ranking import FinetuneTask

POOL = 20_000  # places among which candidates are looked for
LEAST = 20  # queries below which nothing is learned
MOST = 1000  # queries that are looked at
RIDGE = 0.01  # penalty on the squares of the weights
# Penalty on the squares of their differences from those that were learned before the training, that of the encoders'
# own score too: it means something else by then, but how much else 64 queries tell no better (GeoTES).
PULL = 0.1
# All other evidence speaks for a candidate, and few queries must not teach the contrary. Which half of a query tells
# the place, and which the place beside, is a matter of language: there a name that says the other half speaks against.
EITHER_SIGN = ("opening", "ending")


@dataclass(frozen=True)
class Example:
    """A query's candidates. Shape: evidence: (n, E); gold: (n,), some of them, not all."""

    features: Floats
    gold: NDArray[np.bool_]


def learn(
    records: Sequence[Record],
    pois: pd.DataFrame | None,
    encoder: TorchEncoder,
    seed: int,
    progress: Progress,
    before: RerankerWeights | None = None,
) -> RerankerWeights | None:
    """Weights from labelled queries; None where too few have their gold among other candidates.

    Args:
        pois: address, lng, lat (degrees, WGS-84), or None.
        progress: is told of texts encoded.
        before: what other queries taught, with the encoders as they were before they were trained on those.
    """
    examples = examples_of(records[:MOST], pois, encoder, seed, progress)
    if len(examples) < LEAST:
        return None
    known = None if before is None else np.array(before.values)
    values = tuple(fit(examples, before=known).tolist())
    return RerankerWeights(values, len(examples), 0 if before is None else before.queries)


def learn_before(
    records: Sequence[Record], config: Config, checkpoint: Checkpoint, device: torch.device, progress: Progress
) -> RerankerWeights | None:
    """What training records teach about the weights as long as the model is not trained on them.

    None where nobody will ask: without a hybrid score, or without validation records; and of a model that was finetuned
    before, maybe on these. The model comes back in training mode and the random state untouched. Raises InputError for
    an unreadable POI table.
    """
    if not config.eval.rerank or checkpoint.stage == FinetuneTask.stage or find_records(config.data, "val") is None:
        return None
    pois = table_of(config.data)
    encoder = TorchEncoder(checkpoint, device, config.eval.batch_tokens, config.eval.precision)
    found = learn(records, pois, encoder, config.seed, progress)
    checkpoint.model.train()
    return found


def table_of(data: DataConfig) -> pd.DataFrame | None:
    """The POI table of a run's data, if it has one. Raises InputError for an unreadable one."""
    path = find_pois(data)
    return None if path is None else read_pois(path, data.datum)


def examples_of(
    records: Sequence[Record], pois: pd.DataFrame | None, encoder: TorchEncoder, seed: int, progress: Progress
) -> list[Example]:
    """Those of the labelled queries that have their gold among their candidates, and others.

    Candidates are the best by q·v among the table (of a large one, a sample and all gold), or the records' passages.
    """
    if not records:
        return []
    pool = pool_of(records, pois, seed)
    texts = pool["address"].tolist()
    lng, lat = (pool[name].to_numpy(np.float64) for name in ("lng", "lat"))
    keys = {poi_key(*row): i for i, row in enumerate(zip(texts, lng, lat, strict=True))}
    vectors = encoder.poi_texts(texts, progress) + encoder.locations(lng, lat)
    document_frequencies, examples = DocumentFrequencies.of(texts), []
    for record, query in zip(records, encoder.queries([r.query for r in records]), strict=True):
        scores = vectors @ query
        rows = np.argsort(-scores, kind="stable")[:DEPTH]
        gold = np.isin(rows, [keys[key] for key in record.gold if key in keys])
        if gold.any() and not gold.all():
            found = Candidates([texts[i] for i in rows], scores[rows], lng[rows], lat[rows])
            asked = Query(record.query_id, record.query, record.lng, record.lat)
            examples.append(Example(features(asked, found, document_frequencies), gold))
    return examples


def pool_of(records: Sequence[Record], pois: pd.DataFrame | None, seed: int) -> pd.DataFrame:
    """Distinct places, address, lng and lat: the table's, or the records'; at most ``POOL`` besides the gold."""
    positives = [(p.text, p.lng, p.lat) for r in records for p in r.positives]
    if pois is None:
        rows = [(p.text, p.lng, p.lat) for r in records for p in r.negatives]
        pois = pd.DataFrame(rows, columns=["address", "lng", "lat"])
    table = pois[["address", "lng", "lat"]]
    if len(table) > POOL:
        table = table.sample(POOL, random_state=seed)
    whole = pd.concat([pd.DataFrame(positives, columns=table.columns), table], ignore_index=True)
    keys = pd.Series([poi_key(*row) for row in whole.itertuples(index=False, name=None)])
    return whole[~keys.duplicated().to_numpy()].reset_index(drop=True)


def fit(examples: Sequence[Example], ridge: float = RIDGE, before: Floats | None = None) -> Floats:
    """Weights that minimise -log of the softmax's share on the gold, in the mean, plus ridge · |w|². Shape: -> (E,).

    No weight is below 0, but those of ``EITHER_SIGN``. With weights of ``before``, (E,), PULL · |w - before|² stands in
    the place of that penalty.
    """
    from scipy.optimize import minimize

    width = max(len(e.gold) for e in examples)
    penalty, aim = (ridge, np.zeros(len(FEATURES))) if before is None else (PULL, before)
    table, gold = np.zeros((len(examples), width, len(FEATURES))), np.zeros((len(examples), width), bool)
    there = np.zeros_like(gold)
    for i, e in enumerate(examples):
        own = slice(len(e.gold))
        table[i, own], gold[i, own], there[i, own] = e.features, e.gold, True

    def loss(weights: Floats) -> tuple[float, Floats]:
        scores = np.where(there, table @ weights, -np.inf)
        own = np.where(gold, scores, -np.inf)
        all_mass, gold_mass = (np.logaddexp.reduce(x, axis=1) for x in (scores, own))
        share = np.exp(scores - all_mass[:, None]) - np.exp(own - gold_mass[:, None])
        slope = np.einsum("qn,qne->e", share, table) / len(examples) + 2.0 * penalty * (weights - aim)
        return float((all_mass - gold_mass).mean() + penalty * ((weights - aim) ** 2).sum()), slope

    start = aim.copy()
    start[FEATURES.index("dense")] = 1.0
    bounds = [(None if name in EITHER_SIGN else 0.0, None) for name in FEATURES]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x)
