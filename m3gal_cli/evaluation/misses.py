"""Misses: queries whose gold is not the first answer, and the kinds of error that explain them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from m3gal_cli.text.addresses import parse_address, parse_surroundings
from m3gal_cli.text.folding import fold, has_units, reading
from m3gal_cli.text.normalise import normalise
from m3gal_cli.text.romanise import romanise

NOT_FOUND = "not among the candidates"
NUMBER = "number differs"
BRANCH = "same name elsewhere"
SAME_PLACE = "same place, another entry"
TYPING = "typing error"
REFERENCE = "another place in the query"
OTHER = "other"
KINDS = {  # and their explanation
    NOT_FOUND: "No search found the gold, so the reranker did not see it.",
    NUMBER: "Gold and first answer read the same but for their numbers.",
    BRANCH: "Gold and first answer have the same name and are more than 100 m apart: probably another branch.",
    SAME_PLACE: "The first answer is within 100 m of the gold, and one name contains the other.",
    TYPING: "A word of the query is nearly a word of the gold.",
    REFERENCE: "The query contains the name of the first answer, probably to say where the gold is.",
    OTHER: "None of the other kinds applies.",
}
SAME_PLACE_M = 100.0
LEAST_SIMILARITY = 0.75  # of words, by edit distance, and of names to a part of the query
SHORTEST = 4  # letters of a mistyped word or name
_NUMBER = re.compile(r"\d+[a-z]?(?![a-z])")  # 12, 12a


@dataclass(frozen=True)
class Answer:
    """A POI that answers a query, or should."""

    poi_id: str | None  # None if it is not in the table
    address: str
    lng: float
    lat: float
    is_gold: bool
    probability: float | None  # None without a reranker, and for a POI that is no candidate


@dataclass(frozen=True)
class FeatureValues:
    """A scaled feature of the gold and of the first answer."""

    name: str
    gold: float | None  # as if the gold were a candidate; None if it is not in the table, or has no finite vector
    first: float


@dataclass(frozen=True)
class Miss:
    """A query whose gold is not the first answer."""

    query: str
    query_id: str | None
    lng: float | None  # query location
    lat: float | None
    kind: str  # one of ``KINDS``
    rank: int | None  # of the gold; None: it is not in the table
    distance_m: float | None  # from the first answer to the gold; None without an answer
    gold: Answer  # of several, the best one
    answers: list[Answer]  # the first ones, best first
    no_match: float | None  # probability that no POI of the table is meant; None without a reranker
    features: list[FeatureValues]  # largest difference first; empty without a reranker, or without an answer

    def to_json(self) -> dict[str, Any]:
        """Return the object of a line of ``--errors FILE.jsonl``."""
        return asdict(self)


def miss_kind(query: str, gold: str, first: str, distance_m: float) -> str:
    """Return the kind of a miss whose gold is among the candidates: the first rule that applies.

    Texts are compared in their folded form (see ``fold``), without spaces. A name is the first part of an address; the
    short name lacks its brackets.

    1. NUMBER: The names are equal but for numbers; or the names are equal, and the addresses are but for numbers.
    2. BRANCH: The names or the short names are equal, and the distance is above 100 m.
    3. SAME_PLACE: The distance is at most 100 m, and one short name contains the other.
    4. TYPING: See ``is_mistyped``.
    5. REFERENCE: The query contains the short name of the first answer (see ``mentions``).
    6. OTHER.

    Args:
        query: The query.
        gold: Address of the gold.
        first: Address of the first answer.
        distance_m: Metres between them.
    """
    names = [fold(parse_address(text).name) for text in (gold, first)]
    is_same_name = _joined(names[0]) == _joined(names[1])
    if differs_in_numbers(*names) or (is_same_name and differs_in_numbers(fold(gold), fold(first))):
        return NUMBER
    own, other = short_name(gold), short_name(first)
    near = distance_m <= SAME_PLACE_M
    if not near and own and (is_same_name or _joined(own) == _joined(other)):
        return BRANCH
    if near and (contains(other, own) or contains(own, other)):
        return SAME_PLACE
    if is_mistyped(query, gold):
        return TYPING
    return REFERENCE if mentions(fold(query), other) else OTHER


def short_name(address: str) -> str:
    """Return the folded name of an address without its brackets, which often hold the name of a branch."""
    parts = parse_surroundings(address)
    return fold(parts.brand) or fold(parts.name)


def contains(text: str, name: str) -> bool:
    """Return whether a text has a name as whole words, or as letters of scripts without spaces; folded texts."""
    if has_units(name):
        return _joined(name) in _joined(text)
    return bool(name) and f" {name} " in f" {text} "


def mentions(query: str, name: str) -> bool:
    """Return whether a query contains a name; in scripts without spaces, or nearly so. Folded texts."""
    return contains(query, name) or (has_units(name) and _is_nearly_in(_joined(name), _joined(query)))


def differs_in_numbers(one: str, other: str) -> bool:
    """Return whether two folded texts have different numbers, and the same letters besides."""
    rest, other_rest = (_joined(_NUMBER.sub("", text)) for text in (one, other))
    return _NUMBER.findall(one) != _NUMBER.findall(other) and rest == other_rest and any(map(str.isalpha, rest))


def is_mistyped(query: str, gold: str) -> bool:
    """Return whether a query has a typing error in the name or a word of the gold.

    In scripts without spaces, the query lacks the short name, but has another text of the same reading or nearly the
    same letters. In others, a word of the query that the address lacks is similar to a word that the query lacks, or is
    several words without their spaces.
    """
    name, typed = _joined(short_name(gold)), _joined(fold(query))
    if has_units(name):
        return name not in typed and (reading(name) in _joined(reading(typed)) or _is_nearly_in(name, typed))
    own, others = (romanise(normalise(text)).split() for text in (query, gold))
    missing = [word for word in others if word not in own]
    unknown = [word for word in own if word not in others and len(word) >= SHORTEST and not word.isdigit()]
    unknown = [word for word in unknown if not any(word in other for other in others)]  # a part of a word is no error
    similar = partial(process.extractOne, choices=missing, scorer=OSA.normalized_similarity)
    return any(word in "".join(others) or similar(word, score_cutoff=LEAST_SIMILARITY) for word in unknown)


def _is_nearly_in(name: str, query: str) -> bool:
    """Return whether a part of a query is similar to a name, both without spaces."""
    if len(name) < SHORTEST or len(query) < LEAST_SIMILARITY * len(name):
        return False
    return fuzz.partial_ratio(name, query) >= 100.0 * LEAST_SIMILARITY


def _joined(text: str) -> str:
    return text.replace(" ", "")
