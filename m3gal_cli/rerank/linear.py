"""The best of a search scored again by all that depends on the query: words, neighbours, where it was typed.

A search finds candidates by one vector a POI. The score here is a weighted sum of evidence on each candidate (see
retrieval.evidence), the logit of a softmax over them, its weights learned on labelled queries that the
encoders were not trained on (see training.balance).
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from m3gal_cli.data.queries import Query
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, atomic_text
from m3gal_cli.index.index import Index
from m3gal_cli.rerank.features import FEATURES, Candidates, Floats, features
from m3gal_cli.text.document_frequencies import FILE as LEXICON
from m3gal_cli.text.document_frequencies import DocumentFrequencies

FORMAT, FILE = 2, "hybrid.json"  # another format where evidence means something else
BEFORE = "hybrid_before.json"  # of a run: weights that were learned before its first step
# Candidates of a query: where the place beside is typed, too, the best 200 by vectors lose one place in twenty, and the
# best 1000 next to none (GeoTES, an encoder pretrained on views).
DEPTH = 1000


@dataclass(frozen=True)
class RerankerWeights:
    """How much each evidence says.

    Args:
        values: (E,).
        queries: how many they were learned on.
        before: on how many others, with the encoders as they were before they were trained on those.
    """

    values: tuple[float, ...]
    queries: int
    before: int = 0

    def named(self) -> dict[str, float]:
        """Weights by name."""
        return dict(zip(FEATURES, self.values, strict=True))

    def save(self, folder: Path, name: str = FILE) -> None:
        """Write them into a checkpoint, or as ``BEFORE`` into a run. Raises InputError."""
        content = {"format": FORMAT, "weights": self.named(), "queries": self.queries, "before": self.before}
        with atomic_text(folder / name) as file:
            json.dump(content, file, indent=1)

    @classmethod
    def load(cls, folder: Path, name: str = FILE) -> RerankerWeights | None:
        """Those of a checkpoint, or of a run by ``BEFORE``; None where there are none. Raises InputError for damage."""
        path = folder / name
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT or set(found["weights"]) != set(FEATURES):
                raise ValueError("of another version")
            values = tuple(float(found["weights"][name]) for name in FEATURES)
            if not np.isfinite(values).all():
                raise ValueError("a weight is no number")
            return cls(values, int(found["queries"]), int(found.get("before", 0)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            without = (
                "the validation records alone teach then" if name == BEFORE else "answers are those of vectors then"
            )
            hint = f"Delete the file ({without}), or train again."
            raise InputError(f"cannot be read ({error})", where=path, hint=hint) from error


class LinearReranker:
    """Scores candidates by weights.

    Args:
        lexicon: of the table that candidates come from.
        depth: candidates of a query that are worth it.
    """

    def __init__(self, weights: RerankerWeights, document_frequencies: DocumentFrequencies, depth: int = DEPTH) -> None:
        self.weights, self.document_frequencies, self.depth = weights, document_frequencies, depth
        self._values = np.array(weights.values)

    def scores(self, query: Query, found: Candidates) -> Floats:
        """Logits of the candidates of a query; equal evidence gives equal scores. Shape: -> (n,)."""
        return np.einsum("ne,e->n", features(query, found, self.document_frequencies), self._values, optimize=False)


def open_document_frequencies(index: Index) -> DocumentFrequencies:
    """The lexicon of an index, made where it is missing or damaged, and kept there if that can be."""
    path = index.path / LEXICON
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile):
        found = DocumentFrequencies.load(path)
        if found.size == len(index):
            return found
    pieces = (piece.as_py() for chunk in index.pois["address"].chunks for piece in chunk)
    found = DocumentFrequencies.of(pieces)
    with suppress(InputError), atomic_path(path) as temporary:
        found.save(temporary)
    return found


def probabilities(scores: Floats) -> Floats:
    """Softmax of logits. Shape: (n,) -> (n,), summing to 1."""
    share = np.exp(scores - scores.max(initial=-np.inf))
    return np.asarray(share / share.sum()) if len(share) else share
