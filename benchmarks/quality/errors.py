"""Error report of a method: wrong answers, classified by simple rules, with examples to read.

POI texts are expected in the form of GeoTES: name, category words, street and district, separated by commas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.data.records import Record, query_distances_m
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.text.addresses import parse_address
from m3gal_cli.text.normalise import reading_key

SIMILAR = "same or nearly the same text"
NUMBER = "same compound or street, other number"
BRANCH = "same name, other branch"
REFERENCE = "the reference in the query instead of the POI"
OTHER = "other error"
KINDS = (SIMILAR, NUMBER, BRANCH, REFERENCE, OTHER)

NEAR_M = 200.0
MIN_SIMILARITY = 0.9  # Dice coefficient of character bigrams from which texts count as nearly the same
SEED = 2023
# 12, 12b, 12幢, b座, and Chinese numerals and directions that name a part of a compound
_NUMBER = re.compile(
    r"[一二三四五六七八九十东南西北]+\d*(?=[区期幢栋号弄座门苑单])|\d+[a-z]?(?:号楼|单元|[号幢栋座楼弄])?|[a-z](?=[座幢栋区])"
)
_BRACKET = re.compile(r"[(（\[].*")
_PART = re.compile(r"[-—(（].*")


@dataclass(frozen=True)
class RetrievalError:
    """A query whose gold is not the best match.

    Attributes:
        query: Query text.
        gold: Text of the gold POI.
        found: Text of the best match.
        rank: Rank of the gold; None: it is not in the table.
        query_m: Metres from the query location to the gold; NaN if that is unknown.
        distance_m: Metres from the gold to the best match.
    """

    query: str
    gold: str
    found: str
    rank: int | None
    query_m: float
    distance_m: float

    @property
    def kind(self) -> str:
        """Kind of the error, one of ``KINDS``."""
        return error_kind(self.query, self.gold, self.found)


def error_kind(query: str, gold: str, found: str) -> str:
    """Return the probable reason for an error, by the first rule that applies.

    1. SIMILAR: The normalised texts are equal or share 90% of their character bigrams.
    2. NUMBER: The names are equal but for numbers (12, 3b, 一区, 南门).
    3. BRANCH: The names are equal, or are so up to a bracket.
    4. NUMBER: The names are equal up to a dash or bracket, or one is a prefix of the other: parts of one compound.
    5. REFERENCE: The query contains the name of the best match.
    6. NUMBER: The streets are equal up to the first number.
    7. OTHER.
    """
    if reading_key(gold) == reading_key(found) or dice(reading_key(gold), reading_key(found)) >= MIN_SIMILARITY:
        return SIMILAR
    own, other = parse_address(gold).name, parse_address(found).name
    first, second = reading_key(own), reading_key(other)
    if first != second and _equal(_NUMBER.sub("", first), _NUMBER.sub("", second)):
        return NUMBER
    if _equal(_BRACKET.sub("", own), _BRACKET.sub("", other)):
        return BRANCH
    if _equal(_PART.sub("", own), _PART.sub("", other)) or first.startswith(second) or second.startswith(first):
        return NUMBER
    if len(second) > 1 and second in reading_key(query):
        return REFERENCE
    return NUMBER if _equal(_street(gold), _street(found)) else OTHER


def _equal(one: str, two: str) -> bool:
    """Return whether two texts are equal after normalisation, and not empty."""
    return reading_key(one) == reading_key(two) != ""


def _street(text: str) -> str:
    """Return the street up to its first number; "" for a text without street and district."""
    address = parse_address(text)
    return re.split(r"\d", address.street)[0] if address.district else ""


def dice(one: str, two: str) -> float:
    """Return the Dice coefficient of the sets of character bigrams of two texts."""
    bigrams = [{text[i : i + 2] for i in range(len(text) - 1)} for text in (one, two)]
    total = len(bigrams[0]) + len(bigrams[1])
    return 2 * len(bigrams[0] & bigrams[1]) / total if total else 0.0


def errors_of(
    lines: Iterable[dict[str, Any]], name: str, records: Sequence[Record], pois: pd.DataFrame
) -> list[RetrievalError]:
    """Return the errors of a table row, trained with all labels. Each query counts once, by its lowest seed.

    Args:
        lines: Lines of the result store.
        name: Name of the row in the table.
        records: All queries, by id.
        pois: The POI table.

    Raises:
        InputError: There is no such row, or the best matches of the row were not stored.
    """
    errors: dict[int, RetrievalError | None] = {}
    exists = has_matches = False
    for line in sorted((x for x in lines if x["labels"] is None), key=lambda x: x["seed"]):
        for kind, row in line["rows"].items():
            if name != (f"{line['method']}: {kind}" if kind else line["method"]):
                continue
            exists, has_matches = True, has_matches or "found" in row
            for i, rank, found in zip(line["ids"], row["ranks"], row.get("found", ()), strict=False):
                if i not in errors:
                    errors[i] = _error(records[i], rank, pois.iloc[found]) if rank > 1 else None
    if not has_matches:
        message = f"the best matches of row {name!r} are not stored" if exists else f"no row {name!r}"
        raise InputError(message, where="--errors", hint="Give another row of the table.")
    return [error for error in errors.values() if error is not None]


def _error(record: Record, rank: int, found: Any) -> RetrievalError:
    gold = record.positives[0]
    distance_m = float(haversine_m(gold.lng, gold.lat, found["lng"], found["lat"]))
    query_m = float(query_distances_m([record])[0])
    return RetrievalError(
        record.query, gold.text, found["address"], None if rank == MISS else rank, query_m, distance_m
    )


def error_report(errors: Sequence[RetrievalError], name: str, count: int = 30) -> str:
    """Return the number of errors of each kind and a random sample of ``count`` errors, as Markdown."""
    sample = np.sort(np.random.default_rng(SEED).permutation(len(errors))[:count])
    lines = [f"# {name}: {len(errors)} errors", ""]
    kinds = [error.kind for error in errors]
    for kind in KINDS:
        near = sum(e.distance_m <= NEAR_M for e, own in zip(errors, kinds, strict=True) if own == kind)
        lines.append(f"- {kinds.count(kind)} × {kind}, {near} of them within {NEAR_M:.0f} m of the gold")
    for kind in KINDS:
        shown = [errors[i] for i in sample if kinds[i] == kind]
        lines += ["", f"## {kind}: {len(shown)} of {len(sample)} sampled"] if shown else []
        for error in shown:
            rank = "not in the table" if error.rank is None else f"rank {error.rank}"
            known = not np.isnan(error.query_m)
            location = f"query location {error.query_m:,.0f} m away" if known else "query location unknown"
            lines += ["", f"- {error.query}", f"  - gold ({rank}; {location}): {error.gold}"]
            lines.append(f"  - found ({error.distance_m:,.0f} m from the gold): {error.found}")
    return "\n".join(lines) + "\n"
