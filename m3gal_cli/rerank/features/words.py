"""Features of the words that a query and an address have in common, with typing errors.

The similarity of two words is 1 - d / max(|a|, |b|), d their edit distance with swaps of neighbours; 0 below 0.55.
Equal units have 1, units with equal readings 0.7. Similarities are squared. The weight of a word is its idf; that of a
word that no address has is the idf of the most similar word of the candidates, among equals the first one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import OSA

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features.context import FeatureContext
from m3gal_cli.rerank.features.registry import feature
from m3gal_cli.text.romanise import romanise
from m3gal_cli.text.terms import Ids, Lists, Terms

LEAST_SIMILARITY = 0.55
SAME_READING = 0.7
_WORD = re.compile("[a-z0-9]+")
Similarities = NDArray[np.float32]


@feature(scale=8.0)
def word_coverage(context: FeatureContext) -> Floats:
    """Return Σ idf(w) max s(w, v)² / Σ idf(w), over the words w of the query and v of the address."""
    found = context.shared(_compare_words)
    return found.mean(np.maximum(context.shared(_in_names), found.best(context.candidates.terms.other_words)))


@feature(scale=6.0)
def words_in_name(context: FeatureContext) -> Floats:
    """Return ``word_coverage`` with the words v of the name."""
    return np.asarray(context.shared(_compare_words).mean(context.shared(_in_names)))


@feature(scale=6.0)
def name_word_coverage(context: FeatureContext) -> Floats:
    """Return Σ idf(v) max s(w, v)² / Σ idf(v), over the words v of the name and w of the query."""
    found: WordMatches = context.shared(_compare_words)
    names, frequencies = context.candidates.terms.name_words, context.text.frequencies
    rows, at = names.find(found.ids)
    best = found.squares.max(axis=0, initial=0.0) * frequencies.idf(found.ids)
    of_words = np.repeat(np.arange(len(names)), names.counts)
    total = np.bincount(of_words, frequencies.idf(names.values), len(names))
    return np.bincount(rows, best[at], len(names)) / np.maximum(total, 1e-9)


class WordMatches(NamedTuple):
    """The W distinct words of a query, and the R distinct words of its candidates that are similar to one of them."""

    weights: Floats  # (W,), of the words of the query
    ids: Ids  # (R,), the similar words, ascending
    squares: Similarities  # (W, R), squared similarities

    def best(self, lists: Lists) -> Similarities:
        """Return the squared similarity of the best match in each of n lists of words. Shape: -> (W, n)."""
        rows, at = lists.find(self.ids)
        out = np.zeros((len(self.weights), len(lists)), np.float32)
        if len(rows):
            starts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
            out[:, rows[starts]] = np.maximum.reduceat(self.squares[:, at], starts, axis=1)
        return out

    def mean(self, best: Similarities) -> Floats:
        """Return the weighted mean over the words of the query. Shape: (W, n) -> (n,)."""
        if not len(self.weights):
            return np.zeros(best.shape[1])
        return np.einsum("w,wn->n", self.weights / self.weights.sum(), best.astype(np.float64), optimize=False)


def _in_names(context: FeatureContext) -> Similarities:
    found: WordMatches = context.shared(_compare_words)
    return found.best(context.candidates.terms.name_words)


def _compare_words(context: FeatureContext) -> WordMatches:
    query, frequencies = list(dict.fromkeys(context.text.words)), context.text.frequencies
    words, similarities = _similar_words(query, "\n".join(f"{name}\t{others}" for name, others in context.folded))
    ids, own = Terms.word_ids(words), context.text.word_ids[[context.text.words.index(word) for word in query]]
    weights = frequencies.idf(own)
    if words:
        unknown = (frequencies.counts_of(own) == 0) & (similarities.max(axis=1) >= LEAST_SIMILARITY)
        weights = np.where(unknown, frequencies.idf(ids)[similarities.argmax(axis=1)], weights)
    order = np.argsort(ids)
    return WordMatches(weights, ids[order], similarities[:, order] ** 2)


def _similar_words(query: Sequence[str], text: str) -> tuple[list[str], Similarities]:
    """Return the distinct words of a text that are similar to a word of a query, and the similarities: (W, R)."""
    words = [i for i, word in enumerate(query) if word.isascii()]
    units = [i for i, word in enumerate(query) if not word.isascii()]
    found, similarities = list[str](), [np.zeros((len(query), 0), np.float32)]
    for rows, compare in ((words, _compare_spelling), (units, _compare_units)):
        if rows:
            others, values = compare([query[i] for i in rows], text)
            found += others
            similarities.append(np.zeros((len(query), len(others)), np.float32))
            similarities[-1][rows] = values
    return found, np.concatenate(similarities, axis=1)


def _compare_spelling(query: Sequence[str], text: str) -> tuple[list[str], Similarities]:
    others = list(dict.fromkeys(_WORD.findall(text)))
    kind, cutoff = OSA.normalized_similarity, LEAST_SIMILARITY
    values = process.cdist(query, others, scorer=kind, score_cutoff=cutoff, dtype=np.float32)
    similar = np.flatnonzero(values.any(axis=0))
    return [others[i] for i in similar.tolist()], values[:, similar]


def _compare_units(query: Sequence[str], text: str) -> tuple[list[str], Similarities]:
    own = np.array([romanise(unit) for unit in query])
    units, wanted = [letter for letter in dict.fromkeys(text) if not letter.isascii()], set(own.tolist())
    pairs = zip(units, romanise("\t".join(units)).split("\t"), strict=False)  # split returns [""] for no unit
    similar = [(unit, reading) for unit, reading in pairs if reading in wanted]
    others, readings = [unit for unit, _ in similar], np.array([reading for _, reading in similar], str)
    values = (own[:, None] == readings) * SAME_READING
    values[np.array(query)[:, None] == np.array(others, str)] = 1.0
    return others, values.astype(np.float32)
