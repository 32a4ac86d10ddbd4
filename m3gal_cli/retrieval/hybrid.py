"""The best of a search scored again by all that depends on the query: words, neighbours, where it was typed.

A search finds candidates by one vector a POI. The score here is a weighted sum of evidence on each candidate, the
logit of a softmax over them, its weights learned on labelled queries that the encoders were not trained on (see
training.balance):

    dense        q·v of the search
    lexical      -ln(1 + candidates with a higher BM25)
    name         share of the idf of the address's head (its name: what stands before the first comma) that is typed
    around       share of the query that the candidate does not say, but neighbours do: a gram in a candidate at d
                 metres counts exp(-d / 500 m). Who types "opposite Star Square" names a place by its neighbour.
    near_1km, near_3km   exp(-d / 1 or 3 km), d from where the query was typed; 0 if that is unknown
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.coordinates import METRES_PER_DEGREE, haversine_m
from m3gal_cli.data.files import atomic_path, atomic_text
from m3gal_cli.data.queries import Query
from m3gal_cli.errors import InputError
from m3gal_cli.retrieval.index import Index
from m3gal_cli.retrieval.lexical import grams_of
from m3gal_cli.retrieval.lexicon import FILE as LEXICON
from m3gal_cli.retrieval.lexicon import Lexicon, Terms, count_grams, length_of, plain

FORMAT, FILE = 1, "hybrid.json"
DEPTH = 200  # candidates of a query
NEAR_KM = (1.0, 3.0)
AROUND_M = 500.0
EVIDENCE = ("dense", "lexical", "name", "around", *(f"near_{km:g}km" for km in NEAR_KM))
# So that weights of all are of one size, and a penalty on them means the same for each.
SCALE = np.array([20.0, 1.0, 3.0, 5.0, 1.0, 1.0])
_COMMA = re.compile(r"[,，]")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """What a search found for one query. Shape: n texts; scores, lng, lat (degrees): (n,)."""

    texts: Sequence[str]
    scores: NDArray[np.floating]
    lng: Floats
    lat: Floats


@dataclass(frozen=True)
class Weights:
    """How much each evidence says. Args: values: (E,); queries: how many they were learned on."""

    values: tuple[float, ...]
    queries: int

    def named(self) -> dict[str, float]:
        """Weights by name."""
        return dict(zip(EVIDENCE, self.values, strict=True))

    def save(self, folder: Path) -> None:
        """Write them into a checkpoint. Raises InputError."""
        with atomic_text(folder / FILE) as file:
            json.dump({"format": FORMAT, "weights": self.named(), "queries": self.queries}, file, indent=1)

    @classmethod
    def load(cls, checkpoint: Path) -> Weights | None:
        """Those of a checkpoint; None where it has none. Raises InputError for a damaged file."""
        path = checkpoint / FILE
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT or set(found["weights"]) != set(EVIDENCE):
                raise ValueError("of another version")
            values = tuple(float(found["weights"][name]) for name in EVIDENCE)
            if not np.isfinite(values).all():
                raise ValueError("a weight is no number")
            return cls(values, int(found["queries"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "Delete the file (answers are then those of the vectors alone), or train again."
            raise InputError(f"cannot be read ({error})", where=path, hint=hint) from error


class Hybrid:
    """Scores candidates by weights.

    Args:
        lexicon: of the table that candidates come from.
        depth: candidates of a query that are worth it.
    """

    def __init__(self, weights: Weights, lexicon: Lexicon, depth: int = DEPTH) -> None:
        self.weights, self.lexicon, self.depth = weights, lexicon, depth
        self._values = np.array(weights.values)

    def scores(self, query: Query, found: Candidates) -> Floats:
        """Logits of the candidates of a query; equal evidence gives equal scores. Shape: -> (n,)."""
        return np.einsum("ne,e->n", evidence(query, found, self.lexicon), self._values, optimize=False)


def open_lexicon(index: Index) -> Lexicon:
    """The lexicon of an index, made where it is missing or damaged, and kept there if that can be."""
    path = index.path / LEXICON
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile):
        found = Lexicon.load(path)
        if found.size == len(index):
            return found
    pieces = (piece.as_py() for chunk in index.pois["address"].chunks for piece in chunk)
    found = Lexicon.of(pieces)
    with suppress(InputError), atomic_path(path) as temporary:
        found.save(temporary)
    return found


def probabilities(scores: Floats) -> Floats:
    """Softmax of logits. Shape: (n,) -> (n,), summing to 1."""
    share = np.exp(scores - scores.max(initial=-np.inf))
    return np.asarray(share / share.sum()) if len(share) else share


def evidence(query: Query, found: Candidates, lexicon: Lexicon) -> Floats:
    """All evidence on the candidates of a query, scaled. Shape: -> (n, E), in the order of ``EVIDENCE``."""
    out = np.zeros((len(found.texts), len(EVIDENCE)))
    if not len(out):
        return out
    texts, terms, typed = [plain(t) for t in found.texts], lexicon.terms(query.text), plain(query.text)
    counts = count_grams(terms, texts)
    out[:, 0] = found.scores
    bm25 = lexicon.bm25(terms, counts, np.array([length_of(t) for t in texts], np.float64))
    out[:, 1] = -np.log1p(np.searchsorted(np.sort(-bm25), -bm25))
    out[:, 2] = _name_typed(typed, [plain(_COMMA.split(t, maxsplit=1)[0]) for t in found.texts], lexicon)
    out[:, 3] = _around(terms, counts > 0, found)
    if query.lng is not None and query.lat is not None:
        metres = haversine_m(query.lng, query.lat, found.lng, found.lat)
        out[:, 4:] = np.exp(-metres[:, None] / (1000.0 * np.array(NEAR_KM)))
    return out * SCALE


def _name_typed(typed: str, names: list[str], lexicon: Lexicon) -> Floats:
    """Share of the idf of each name's different grams that is in the query. Shape: -> (n,); 0 for a name of none."""
    grams = [list(dict.fromkeys(grams_of(name.split()))) for name in names]
    known = list(dict.fromkeys(g for own in grams for g in own))
    idf = dict(zip(known, lexicon.idf(known).tolist(), strict=True))
    said = {g: value if g in typed else 0.0 for g, value in idf.items()}
    return np.array([sum(said[g] for g in own) / sum(idf[g] for g in own) if own else 0.0 for own in grams])


def _around(terms: Terms, said: NDArray[np.bool_], found: Candidates) -> Floats:
    """Share of the query that is said near a candidate beyond what it says itself. Shape: (n, G) -> (n,)."""
    east = (found.lng[:, None] - found.lng + 180.0) % 360.0 - 180.0
    east *= METRES_PER_DEGREE * np.cos(np.radians(found.lat))[:, None]
    north = (found.lat[:, None] - found.lat) * METRES_PER_DEGREE
    closeness = np.exp(-np.hypot(east, north) / AROUND_M)
    out = np.zeros(len(said))
    for share, own in zip(terms.shares, said.T, strict=True):
        if own.any():
            out += share * np.where(own, 0.0, closeness[:, own].max(axis=1))
    return out
