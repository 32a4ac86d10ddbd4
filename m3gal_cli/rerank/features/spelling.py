"""Features that compare names as strings: they tolerate typing errors, missing spaces and unfinished words.

The similarity of two texts is 1 - d / (|a| + |b|), d the number of insertions and deletions. A part of a text is as
long as the shorter text, or less at the beginning and at the end. A query without units, such as "wangfujing", is
compared with the ASCII reading of names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features.context import FeatureContext
from m3gal_cli.rerank.features.query_terms import words_of
from m3gal_cli.rerank.features.registry import feature
from m3gal_cli.text.folding import reading
from m3gal_cli.text.romanise import romanise

SUFFIX_WORDS = 4
INITIALS = range(2, 9)  # letters of a query that may be initials


@feature(scale=4.0)
def name_similarity(context: FeatureContext) -> Floats:
    """Return the similarity of query and name."""
    return _compare(fuzz.ratio, context.text.folded, context.shared(_names)) / 100.0


@feature(scale=4.0)
def name_part(context: FeatureContext) -> Floats:
    """Return the similarity of the shorter text to the best part of the longer one, times min(1, |query| / |name|)."""
    names, query = context.shared(_names), context.text.folded
    shares = np.array([min(1.0, len(query) / max(len(name), 1)) for name in names])
    return _compare(fuzz.partial_ratio, query, names) / 100.0 * shares


@feature(scale=4.0)
def joined_part(context: FeatureContext) -> Floats:
    """Return the similarity of the query to the best part of the address, both without spaces."""
    return _compare(fuzz.partial_ratio, _joined(context.text.folded), context.shared(_joined_addresses)) / 100.0


@feature(scale=4.0)
def prefix_similarity(context: FeatureContext) -> Floats:
    """Return 1 - d / |query|, d the edit distance of the query and the beginning of the name, without spaces."""
    query = _joined(context.text.folded)
    return _compare(OSA.normalized_similarity, query, [_joined(n)[: len(query)] for n in context.shared(_names)])


@feature(scale=3.0)
def initials(context: FeatureContext) -> Floats:
    """Return |query| / |words of the name| if the query is the beginning of the initials of the name, else 0."""
    query, out = _joined(context.text.folded), np.zeros(len(context))
    if len(query) in INITIALS and query.isascii() and query.isalpha():
        for i, (name, _) in enumerate(context.folded):
            letters = "".join(romanise(word)[:1] for word in words_of(name))
            if len(letters) > 1 and letters.startswith(query):
                out[i] = len(query) / len(letters)
    return out


@feature(scale=4.0)
def suffix_similarity(context: FeatureContext) -> Floats:
    """Return Dice's coefficient 2 |a ∩ b| / (|a| + |b|) of the last four words or units of query and name."""
    query, counts = np.unique(context.text.word_ids[-SUFFIX_WORDS:], return_counts=True)
    names = context.candidates.terms.name_words
    at = names.starts[1:, None] - np.arange(1, SUFFIX_WORDS + 1)
    exists, words = at >= names.starts[:-1, None], np.concatenate([names.values, np.zeros(SUFFIX_WORDS, np.uint32)])[at]
    common = np.zeros(len(context))
    for word, count in zip(query, counts, strict=True):
        common += np.minimum(((words == word) & exists).sum(axis=1), count)
    return 2.0 * common / np.maximum(counts.sum() + exists.sum(axis=1), 1)


def _names(context: FeatureContext) -> list[str]:
    return [_read(context, name) for name, _ in context.folded]


def _joined_addresses(context: FeatureContext) -> list[str]:
    return [_joined(_read(context, name + others)) for name, others in context.folded]


def _read(context: FeatureContext, folded: str) -> str:
    return folded if context.text.has_units else reading(folded)


def _joined(folded: str) -> str:
    return folded.replace(" ", "")


def _compare(scorer: Callable[..., Any], query: str, texts: Sequence[str]) -> Floats:
    """Return the score of each text for the query. Shape: n texts -> (n,)."""
    return np.asarray(process.cdist([query], texts, scorer=scorer, dtype=np.float32)[0], np.float64)
