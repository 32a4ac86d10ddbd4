"""The weights of the hybrid score, learned on labelled queries with the encoders as they are in the end.

The encoders know their own training queries too well: weights learned on those trust the vectors more than is right for
a query never seen. Validation queries are new to them, but few. So the weights that fit the training queries are where
the fit on the validation queries starts from, and what it is pulled to, if that says more of validation queries left
out than the fit without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.queries import Query
from m3gal_cli.data.records import Record, poi_key
from m3gal_cli.retrieval.embed import Embedder, Progress
from m3gal_cli.retrieval.evidence import EVIDENCE, Candidates, Floats, evidence
from m3gal_cli.retrieval.hybrid import DEPTH, Weights
from m3gal_cli.retrieval.lexicon import Lexicon

POOL = 20_000  # places among which candidates are looked for
LEAST = 20  # queries below which nothing is learned
MOST = 1000  # queries of each kind that are looked at
RIDGE = 0.003  # penalty on the squares of the weights
PULL = 0.03  # penalty on the squares of their distances from those of the training queries
PARTS = 5  # of the validation queries, each left out once
# All other evidence speaks for a candidate, and few queries must not teach the contrary. Which half of a query tells
# the place, and which the place beside, is a matter of language: there a name that says the other half speaks against.
EITHER_SIGN = ("opening", "ending")


@dataclass(frozen=True)
class Example:
    """A query's candidates. Shape: evidence: (n, E); gold: (n,), some of them, not all."""

    evidence: Floats
    gold: NDArray[np.bool_]


def learn(
    training: Sequence[Record],
    validation: Sequence[Record],
    pois: pd.DataFrame | None,
    embedder: Embedder,
    seed: int,
    progress: Progress,
) -> Weights | None:
    """Weights from labelled queries; None where too few to validate have their gold among other candidates.

    Candidates are the best by q·v among the table (of a large one, a sample and all gold), or the records' passages.

    Args:
        training: queries that the encoders were trained on; may be none.
        validation: queries that they were not trained on.
        pois: address, lng, lat (degrees, WGS-84), or None.
        progress: is told of texts encoded.
    """
    training, validation = training[:MOST], validation[:MOST]
    if len(validation) < LEAST:
        return None
    pool = pool_of([*training, *validation], pois, seed)
    texts = pool["address"].tolist()
    lng, lat = (pool[name].to_numpy(np.float64) for name in ("lng", "lat"))
    vectors = embedder.poi_texts(texts, progress) + embedder.locations(lng, lat)
    places = _Places(texts, lng, lat, vectors, Lexicon.of(texts))
    known, new = (_examples(records, places, embedder) for records in (training, validation))
    if len(new) < LEAST:
        return None
    return Weights(tuple(balance(known, new).tolist()), len(known) + len(new))


def balance(known: Sequence[Example], new: Sequence[Example]) -> Floats:
    """Weights for queries like the new ones, from known ones too if that helps. Shape: -> (E,)."""
    alone = fit(new)
    if not known:
        return alone
    near = fit(known)
    parts = [[e for i, e in enumerate(new) if i % PARTS == part] for part in range(PARTS)]
    losses = np.zeros(2)
    for part in range(PARTS):
        rest = [e for other, own in enumerate(parts) if other != part for e in own]
        for i, weights in enumerate((fit(rest), fit(rest, near))):
            losses[i] += loss_of(weights, parts[part]) * len(parts[part])
    return alone if losses[0] < losses[1] else fit(new, near)


@dataclass(frozen=True)
class _Places:
    """Where candidates are looked for. Shape: N texts; lng, lat: (N,); vectors: (N, D)."""

    texts: list[str]
    lng: Floats
    lat: Floats
    vectors: NDArray[np.float32]
    lexicon: Lexicon


def _examples(records: Sequence[Record], places: _Places, embedder: Embedder) -> list[Example]:
    """Those of the records that have their gold among their candidates, and others."""
    if not records:
        return []
    keys = {poi_key(*row): i for i, row in enumerate(zip(places.texts, places.lng, places.lat, strict=True))}
    examples = []
    for record, query in zip(records, embedder.queries([r.query for r in records]), strict=True):
        scores = places.vectors @ query
        rows = np.argsort(-scores, kind="stable")[:DEPTH]
        gold = np.isin(rows, [keys[key] for key in record.gold if key in keys])
        if gold.any() and not gold.all():
            found = Candidates([places.texts[i] for i in rows], scores[rows], places.lng[rows], places.lat[rows])
            asked = Query(record.query_id, record.query, record.lng, record.lat)
            examples.append(Example(evidence(asked, found, places.lexicon), gold))
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


def fit(examples: Sequence[Example], near: Floats | None = None, ridge: float | None = None) -> Floats:
    """Weights that minimise ``loss_of`` the examples plus ridge · |w - near|². Shape: -> (E,).

    No weight is below 0, but those of ``EITHER_SIGN``.

    Args:
        near: (E,) weights to stay near to; None: 0.
        ridge: None: ``RIDGE``, or ``PULL`` where there are weights to stay near to.
    """
    from scipy.optimize import minimize

    if ridge is None:
        ridge = RIDGE if near is None else PULL
    centre = np.zeros(len(EVIDENCE)) if near is None else near
    data = _Padded(examples)

    def penalised(weights: Floats) -> tuple[float, Floats]:
        loss, slope = data.loss(weights)
        away = weights - centre
        return loss + ridge * float(away @ away), slope + 2.0 * ridge * away

    start = centre.copy()
    if near is None:
        start[EVIDENCE.index("dense")] = 1.0
    bounds = [(None if name in EITHER_SIGN else 0.0, None) for name in EVIDENCE]
    return np.asarray(minimize(penalised, start, jac=True, method="L-BFGS-B", bounds=bounds).x)


def loss_of(weights: Floats, examples: Sequence[Example]) -> float:
    """Mean of -log of the softmax's share on the gold."""
    return _Padded(examples).loss(weights)[0]


class _Padded:
    """Examples in one array, to look at all at once."""

    def __init__(self, examples: Sequence[Example]) -> None:
        width = max(len(e.gold) for e in examples)
        self.table = np.zeros((len(examples), width, len(EVIDENCE)))
        self.gold = np.zeros((len(examples), width), bool)
        self.there = np.zeros_like(self.gold)
        for i, e in enumerate(examples):
            own = slice(len(e.gold))
            self.table[i, own], self.gold[i, own], self.there[i, own] = e.evidence, e.gold, True

    def loss(self, weights: Floats) -> tuple[float, Floats]:
        """Mean of -log of the softmax's share on the gold, and its slope. Shape: (E,) -> (), (E,)."""
        scores = np.where(self.there, self.table @ weights, -np.inf)
        own = np.where(self.gold, scores, -np.inf)
        all_mass, gold_mass = (np.logaddexp.reduce(x, axis=1) for x in (scores, own))
        share = np.exp(scores - all_mass[:, None]) - np.exp(own - gold_mass[:, None])
        slope = np.tensordot(share, self.table, axes=2) / len(self.table)
        return float((all_mass - gold_mass).mean()), slope
