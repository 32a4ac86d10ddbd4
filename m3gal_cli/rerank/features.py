"""What speaks for a candidate of a query beside its vector: words, numbers, neighbours, and where it was typed.

Who looks for a place without its address types another place, a road, a crossing or a house number, and then what is
there: "opposite Star Square pharmacy" (or, in other languages, the two the other way round). So what a place is called
is told from what stands around it by the halves of the query, and the rest of it is looked for among its neighbours.

    dense        q·v of the search
    coverage     share of the query's idf that the address says
    name         share of the idf of what the name says beyond the kind that is typed; 0 of a car park named Car Park
    opening      share of the idf of the query's first half that the name says
    ending       share of the units of its second half that the name or the kind says
    tail         how alike the last units of query and name are (Dice's coefficient of four of each)
    numbers      share of the query's numbers that the address says, whole numbers only
    untyped      minus the share of the name's numbers that the query does not say: another branch, another gate
    reference    most that one neighbour says of the query beyond what the candidate says itself, as a share of its idf,
                 times exp(-d / 1.5 km)
    reference_opening, reference_ending   the same of the query's first and second half, times exp(-d / 500 m)
    near_700m, near_2500m   how much likelier a place is if the query was typed beside it than if it was typed anywhere:
                 ln(1 + 100 k / (1 + sum of all k)), k = exp(-(d / 700 or 2500 m)² / 2), d from where it was typed; 0
                 if that is unknown. So a place that stands alone there counts for more than one of a hundred

The name is what stands before the first comma of an address, the kind what stands behind it but for the last two parts,
which tell where it is. Units are words and numbers, or, of scripts written without spaces, letters. The idf is that of
character 1-2-grams.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.queries import Query
from m3gal_cli.geo.coordinates import EARTH_RADIUS_M, haversine_m
from m3gal_cli.text.addresses import parts_of
from m3gal_cli.text.document_frequencies import DocumentFrequencies, Grams, plain

NEAR_M = (700.0, 2500.0)
BESIDE = 100.0  # odds of a place around over one anywhere, were it alone there; up to 3000 nothing is better (GeoTES)
REFERENCE_M, HALF_REFERENCE_M = 1500.0, 500.0
WORDS = ("coverage", "name", "opening", "ending", "tail", "numbers", "untyped")
REFERENCES = ("reference", "reference_opening", "reference_ending")
FEATURES = ("dense", *WORDS, *REFERENCES, *(f"near_{metres:g}m" for metres in NEAR_M))
# Times these, evidence of every kind differs by about as much between candidates (among the best 300 for a query of
# GeoTES by a deviation of 0.5 to 0.9), and a penalty on weights means the same for each.
SCALE = np.array([20.0, 10.0, 6.0, 10.0, 4.0, 4.0, 3.0, 2.0, 12.0, 16.0, 16.0, 2.0, 2.0])
TAIL = 4  # units
_NUMBER = re.compile(r"\d+")
# Thai and Lao, Burmese, Khmer, kana and Han.
_ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = re.compile(rf"[{_ALONE}]|\d+|[^\W\d_{_ALONE}]+")
_KNOWN = 20_000  # texts that are not taken apart again
_AT_ONCE = 64  # candidates whose neighbours are looked at together: what they need stays in the processor's cache
_STEPS = 4096  # shares are counted in steps of 1 / 4096, so that their sums in 32 bits are exact, and equal ones equal
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """What a search found for one query. Shape: n texts; scores, lng, lat (degrees): (n,)."""

    texts: Sequence[str]
    scores: NDArray[np.floating]
    lng: Floats
    lat: Floats


@dataclass(frozen=True)
class _Parts:
    """What an address is looked through for: letters and digits of it, of its name and of its kind, units, numbers."""

    text: str
    name: str
    kind: str
    tail: list[str]
    head: frozenset[str]
    numbers: frozenset[str]
    own_numbers: frozenset[str]


def features(query: Query, found: Candidates, document_frequencies: DocumentFrequencies) -> Floats:
    """All evidence on the candidates of a query, scaled. Shape: -> (n, E), in the order of ``EVIDENCE``."""
    out = np.zeros((len(found.texts), len(FEATURES)))
    if not len(out):
        return out
    typed, parts = plain(query.text), [_parts(text) for text in found.texts]
    texts, names, kinds = (Grams.of(said) for said in zip(*((p.text, p.name, p.kind) for p in parts), strict=True))
    half = len(typed) // 2
    terms, first, second = map(document_frequencies.terms, (typed, typed[:half], typed[half:]))
    said = texts.have(terms)
    asked = [
        (said, terms.shares, REFERENCE_M),
        *((texts.have(part), part.shares, HALF_REFERENCE_M) for part in (first, second)),
    ]
    rows = [
        found.scores,
        _sum(said, terms.shares),
        document_frequencies.typed(names.without(kinds), terms),
        _sum(names.have(first), first.shares),
        *_alike(typed, parts),
        *_references(asked, found),
    ]
    out[:, : len(rows)] = np.stack(rows, axis=1)
    if query.lng is not None and query.lat is not None:
        out[:, len(rows) :] = _near(haversine_m(query.lng, query.lat, found.lng, found.lat))
    return out * SCALE


@lru_cache(_KNOWN)
def _parts(address: str) -> _Parts:
    said = parts_of(address)
    text, own, kind = plain(address), plain(said.name), plain(" ".join(said.kinds))
    units = _UNIT.findall(own)
    numbers = (frozenset(_NUMBER.findall(t)) for t in (text, own))
    return _Parts(text, own, kind, units[-TAIL:], frozenset([*units, *_UNIT.findall(kind)]), *numbers)


def _alike(typed: str, parts: Sequence[_Parts]) -> Floats:
    """ending, tail, numbers and untyped. Shape: -> (4, n)."""
    units, numbers = _UNIT.findall(typed), frozenset(_NUMBER.findall(typed))
    ending, tail = units[len(units) // 2 :], units[-TAIL:]
    out = np.zeros((4, len(parts)))
    for i, p in enumerate(parts):
        if units:
            out[0, i] = sum(map(p.head.__contains__, ending)) / len(ending)
        if p.tail:
            out[1, i] = 2.0 * _common(tail, p.tail) / (len(tail) + len(p.tail))
        if numbers:
            out[2, i] = len(numbers & p.numbers) / len(numbers)
        if p.own_numbers:
            out[3, i] = -len(p.own_numbers - numbers) / len(p.own_numbers)
    return out


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of some units the other ones have, each as often as it is there."""
    return sum(min(one.count(unit), other.count(unit)) for unit in {*one} & {*other})


def _sum(said: NDArray[np.bool_], shares: Floats) -> Floats:
    """Shares of the grams that are said. Shape: (n, G), (G,) -> (n,)."""
    # By einsum, not a matrix product, which gives equal rows sums that differ in the last digit.
    return np.einsum("ng,g->n", said.astype(np.float64), shares, optimize=False)


def _references(asked: Sequence[tuple[NDArray[np.bool_], Floats, float]], found: Candidates) -> Floats:
    """Of each: largest of (what another candidate says of some grams, and this one does not) · exp(-d / metres).

    Args:
        asked: which grams each candidate says, their shares, metres. Shape: (n, G), (G,), () -> (len(asked), n).
    """
    east, north, up = _in_space(found.lng, found.lat)
    kinds = [_Said(said.astype(np.float32), shares, metres) for said, shares, metres in asked]
    out = np.zeros((len(kinds), len(found.lng)))
    for start in range(0, len(found.lng), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        metres = np.sqrt(sum((axis[rows, None] - axis) ** 2 for axis in (east, north, up)))
        near = {kind.metres: np.exp(metres / -kind.metres) for kind in kinds}
        for i, kind in enumerate(kinds):
            out[i, rows] = (kind.beyond(rows) * near[kind.metres]).max(axis=1)
    return out / _STEPS


class _Said:
    """What candidates say of some grams. Args: said: (n, G); shares: (G,); metres: in which a neighbour counts."""

    def __init__(self, said: NDArray[np.float32], shares: Floats, metres: float) -> None:
        parts = np.round(shares * _STEPS).astype(np.float32)
        self.said, self.metres = said, metres
        self._theirs, self._whole = np.ascontiguousarray((said * parts).T), said @ parts

    def beyond(self, rows: slice) -> NDArray[np.float32]:
        """Steps of the grams that a candidate says and those of some rows do not. Shape: -> (rows, n)."""
        return np.asarray(self._whole - self.said[rows] @ self._theirs)


def _near(metres: Floats) -> Floats:
    """near_700m and near_2500m. Shape: (n,) -> (n, 2).

    A prior that mixes the two: who types beside the place means any of those around, which share that part among them;
    who types anywhere means any at all. The 1 stands for places around that are no candidates, as the nearest
    candidate of a far city is not near for being the nearest. The ratio does not count the candidates: among the few of
    a set it is to mean what it means among the best of a table.
    """
    share = np.exp(-0.5 * (metres[:, None] / np.array(NEAR_M)) ** 2)
    return np.asarray(np.log1p(BESIDE * share / (1.0 + share.sum(axis=0))))


def _in_space(lng: Floats, lat: Floats) -> NDArray[np.float32]:
    """Points on the globe, in metres from their middle: the straight line is the distance where it matters.

    Unlike a map, this has no date line and no pole. Shape: (n,) -> (3, n).
    """
    east, north = np.radians(lng), np.radians(lat)
    points = EARTH_RADIUS_M * np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])
    return (points - points.mean(axis=1, keepdims=True)).astype(np.float32)
