"""Errors of a method, sorted into kinds by rules that can be read, for a person to look at.

A POI's text is taken as GeoTES writes it: name first, then kinds of place, then address and district, with commas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.data.records import Record, typed_m
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.geo.coordinates import haversine_m
from m3gal_cli.text.normalise import reads

ALIKE = "gold and found read the same or nearly"
NUMBER = "same compound or street, other number"
BRANCH = "same name, other branch"
REFERENCE = "reference found instead of the place"
OTHER = "something else"
KINDS = (ALIKE, NUMBER, BRANCH, REFERENCE, OTHER)

CLOSE_M = 200.0
NEARLY = 0.9  # of the pairs of neighbouring characters are shared
SEED = 2023
# 12, 12b, 12幢, b座, and numerals or sides that tell parts of a compound apart
_NUMBER = re.compile(
    r"[一二三四五六七八九十东南西北]+\d*(?=[区期幢栋号弄座门苑单])|\d+[a-z]?(?:号楼|单元|[号幢栋座楼弄])?|[a-z](?=[座幢栋区])"
)
_BRACKET = re.compile(r"[(（\[].*")
_PART = re.compile(r"[-—(（].*")


@dataclass(frozen=True)
class Mistake:
    """A query whose gold is not the best match.

    Args:
        rank: of the gold; None: it is not in the table.
        typed_m: metres from where the query was typed to the gold; NaN where that is unknown.
        apart_m: metres from the gold to what was found.
    """

    query: str
    gold: str
    found: str
    rank: int | None
    typed_m: float
    apart_m: float

    @property
    def kind(self) -> str:
        return kind_of(self.query, self.gold, self.found)


def kind_of(query: str, gold: str, found: str) -> str:
    """Why ``found`` may have been taken for ``gold``; the first rule that fits, in this order.

    1. The whole texts read the same, or share nine tenths of their pairs of neighbouring characters.
    2. The names differ in numbers alone (12, 3b, 一区, 南门).
    3. The names are the same, or are so before a bracket: another branch.
    4. The names are the same before a dash or bracket, or one begins with the other: parts of one compound.
    5. The query holds the name of what was found: it was the reference.
    6. The addresses are the same before the first number: one street.
    """
    if reads(gold) == reads(found) or shared_pairs(reads(gold), reads(found)) >= NEARLY:
        return ALIKE
    own, other = name_of(gold), name_of(found)
    if reads(own) != reads(other) and _same(numberless(own), numberless(other)):
        return NUMBER
    if _same(_BRACKET.sub("", own), _BRACKET.sub("", other)):
        return BRANCH
    first, second = reads(own), reads(other)
    if _same(_PART.sub("", own), _PART.sub("", other)) or first.startswith(second) or second.startswith(first):
        return NUMBER
    if len(second) > 1 and second in reads(query):
        return REFERENCE
    return NUMBER if _same(street_of(gold), street_of(found)) else OTHER


def _same(one: str, two: str) -> bool:
    """Whether two texts read the same, and are not empty."""
    return reads(one) == reads(two) != ""


def name_of(text: str) -> str:
    """The part before the first comma."""
    return re.split("[,，]", text)[0].strip()


def street_of(text: str) -> str:
    """The address, the last part but one, before its first number; empty where a text has fewer than three parts."""
    parts = re.split("[,，]", text)
    return re.split(r"\d", parts[-2])[0] if len(parts) > 2 else ""


def numberless(name: str) -> str:
    """A name as it reads without its numbers."""
    return _NUMBER.sub("", reads(name))


def shared_pairs(one: str, two: str) -> float:
    """Share of pairs of neighbouring characters that two texts have in common (Dice)."""
    pairs = [{text[i : i + 2] for i in range(len(text) - 1)} for text in (one, two)]
    total = len(pairs[0]) + len(pairs[1])
    return 2 * len(pairs[0] & pairs[1]) / total if total else 0.0


def mistakes_of(
    lines: Iterable[dict[str, Any]], name: str, records: Sequence[Record], pois: pd.DataFrame
) -> list[Mistake]:
    """The mistakes of a row with all labels, of each query by the first seed alone.

    Args:
        name: of the row, as the table has it.
        records: all queries by id.

    Raises:
        InputError: no such row, or one that did not keep what it found.
    """
    out: dict[int, Mistake | None] = {}
    seen = known = False
    for line in sorted((x for x in lines if x["labels"] is None), key=lambda x: x["seed"]):
        for kind, row in line["rows"].items():
            if name != (f"{line['method']}: {kind}" if kind else line["method"]):
                continue
            seen, known = True, known or "found" in row
            for i, rank, found in zip(line["ids"], row["ranks"], row.get("found", ()), strict=False):
                if i not in out:
                    out[i] = _mistake(records[i], rank, pois.iloc[found]) if rank > 1 else None
    if not known:
        what = f"the row {name!r} did not keep what it found" if seen else f"no row {name!r}"
        raise InputError(what, hint="Choose another row of the table.")
    return [mistake for mistake in out.values() if mistake is not None]


def _mistake(record: Record, rank: int, found: Any) -> Mistake:
    gold = record.positives[0]
    apart = float(haversine_m(gold.lng, gold.lat, found["lng"], found["lat"]))
    known = None if rank == MISS else rank
    return Mistake(record.query, gold.text, found["address"], known, float(typed_m([record])[0]), apart)


def page(mistakes: Sequence[Mistake], name: str, count: int = 30) -> str:
    """How many of each kind there are, and ``count`` of them drawn and shown by kind, as Markdown."""
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(mistakes))[:count])
    out = [f"# {name}: {len(mistakes)} errors", ""]
    kinds = [m.kind for m in mistakes]
    for kind in KINDS:
        near = sum(m.apart_m <= CLOSE_M for m in mistakes if m.kind == kind)
        out.append(f"- {kinds.count(kind)} × {kind}, {near} of them within {CLOSE_M:.0f} m of the gold")
    for kind in KINDS:
        shown = [mistakes[i] for i in chosen if kinds[i] == kind]
        out += ["", f"## {kind}: {len(shown)} of {len(chosen)} drawn"] if shown else []
        for m in shown:
            rank = "not in the table" if m.rank is None else f"rank {m.rank}"
            typed = "typed at an unknown place" if np.isnan(m.typed_m) else f"typed {m.typed_m:,.0f} m from the gold"
            out += ["", f"- {m.query}", f"  - gold ({rank}; {typed}): {m.gold}"]
            out.append(f"  - found ({m.apart_m:,.0f} m from the gold): {m.found}")
    return "\n".join(out) + "\n"
