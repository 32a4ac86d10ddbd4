"""Search of a POI table for all rows that a made query fits."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rapidfuzz import process
from rapidfuzz.distance import OSA
from scipy.spatial import cKDTree

from m3gal_cli.geo.distances import EARTH_RADIUS_M, haversine_m
from m3gal_cli.text.addresses import Address, parse_address
from m3gal_cli.text.folding import fold, has_units, reading
from m3gal_cli.text.normalise import reading_key
from m3gal_cli.text.perturbations import no_diacritics

NEIGHBOURS, NEIGHBOUR_M = 10, 400.0
MAX_COMPARED = 2000  # rows whose texts or distances are compared one by one; for more, no row is found
_DIGIT, _DIGITS = re.compile(r"\d"), re.compile(r"\d+")
_LETTER = re.compile(r"[^\W_]")
_COMMA = re.compile("[,，]")
_LONE_NUMBER = re.compile(r"\d[\w/-]*")
# Ends of a street that nobody types: (丝绸博物馆处右转200米), 东南50米, 附近.
_DETAIL = re.compile(r"(?<=.)(?:\s*[(（].*|[东南西北侧]*\d+米|附近)$")
_NUMBER_FIRST = re.compile(r"^\d+[a-zA-Z]?(?:[-/]\d+[a-zA-Z]?)?\s+(?=\D|\d+(?:st|nd|rd|th)\b)")
_NUMBER_LAST = re.compile(r"\s+\d+[\w/-]*(?:\s+[a-zA-Z]?\d*)?$")
_NUMBER_OF_UNITS = re.compile(r"\d.*$")


def key(text: str) -> str:
    """Return the folded form of a text without spaces: texts with equal keys are the same to a reader."""
    return fold(text).replace(" ", "")


def plain(text: str) -> str:
    """Return the letters and digits of a text in lower case, without diacritics; abbreviations stay."""
    letters = reading_key(text)
    return letters if letters.isascii() else no_diacritics(letters)


def edit_distance(a: str, b: str) -> int:
    """Return the edit distance of two plain texts; an exchange of neighbours is one edit (OSA)."""
    return int(OSA.distance(a, b))


def stem(street: str) -> str:
    """Return a street without its house number; the whole text if nothing else is left."""
    if has_units(street):
        return _NUMBER_OF_UNITS.sub("", street) or street
    return _NUMBER_LAST.sub("", _NUMBER_FIRST.sub("", street)) or street


class QueryTable:
    """The rows of a POI table by their texts and by their locations.

    The texts of a row are its name, its other names, and its street if that has a house number.

    Args:
        addresses: Address texts.
        lng: Longitudes in degrees; NaN: unknown.
        lat: Latitudes in degrees.
        other_names: Further names by row.
    """

    def __init__(
        self, addresses: Sequence[str], lng: ArrayLike, lat: ArrayLike, other_names: Mapping[int, Sequence[str]]
    ) -> None:
        self.lng, self.lat = np.asarray(lng, np.float64), np.asarray(lat, np.float64)
        self.other_names = other_names
        self._addresses = addresses
        self._city = _common_last_part(addresses)
        self._keys_of_parts: dict[int, frozenset[str]] = {}
        self._exact: dict[str, list[int]] = {}
        self._plain: dict[str, list[int]] = {}
        self.rows: list[int] = []  # with a name of two or more letters and digits
        self.rows_without_number: list[int] = []  # those whose name has no digit
        for row in range(len(addresses)):
            poi = self.poi(row)
            street = [poi.street] if _DIGIT.search(poi.street) else []
            for text in (poi.name, *other_names.get(row, ()), *street):
                self._exact.setdefault(key(text), []).append(row)
                self._plain.setdefault(plain(text), []).append(row)
            if len(_LETTER.findall(poi.name)) > 1:
                (self.rows if _DIGIT.search(poi.name) else self.rows_without_number).append(row)
        self.rows = sorted(self.rows + self.rows_without_number)

    def poi(self, row: int) -> Address:
        """Return the parts of an address.

        Three forms that ``parse_address`` does not know are read here. A house number may be a part of its own. The
        last part may be the city of most rows. A street may stand one place before or after its usual place.
        """
        name, *others = (part.strip() for part in _COMMA.split(self._addresses[row]))
        parts = others[:1]
        for part in others[1:]:
            if part[:1].isdigit() and _LONE_NUMBER.fullmatch(part):
                parts[-1] += f" {part}"
            else:
                parts.append(part)
        if self._city and len(parts) > 1 and parts[-1] == self._city:
            parts.pop()
        poi = parse_address(",".join([name, *parts]))
        street, district, categories = poi.street, poi.district, poi.categories
        if not _DIGIT.search(street):
            if _DIGIT.search(district):
                street, district, categories = district, "", (*categories, *filter(None, [street]))
            elif categories and _DIGIT.search(categories[-1]):
                street, district, categories = categories[-1], street, categories[:-1]
        street = _DETAIL.sub("", street)
        street, district = (part if _LETTER.search(part) else "" for part in (street, district))
        return Address(poi.name, tuple(filter(_LETTER.search, categories)), street, district)

    def exactly(self, text: str) -> set[int]:
        """Return the rows with a text that reads the same."""
        return set(self._exact.get(key(text), ()))

    def sounding(self, text: str) -> set[int]:
        """Return the rows with a text of the same ASCII reading."""
        return {row for folded in self._readings.get(reading(key(text)), ()) for row in self._exact[folded]}

    def starting(self, text: str) -> set[int]:
        """Return the rows with a text that starts with this one."""
        start = plain(text)
        low = bisect_left(self._sorted, start)
        found: set[int] = set()
        while low < len(self._sorted) and self._sorted[low].startswith(start):
            found.update(self._plain[self._sorted[low]])
            low += 1
        return found

    def containing(self, first: str, then: str) -> set[int]:
        """Return the rows with a text that contains ``first`` and, behind it, ``then``."""
        pattern = re.compile(re.escape(plain(first)) + "[^\n]*" + re.escape(plain(then)))
        at = [match.start() for match in pattern.finditer(self._joined)]
        lines = np.unique(np.searchsorted(self._starts, at, side="right") - 1)
        return {row for line in lines for row in self._plain[self._sorted[line]]}

    def close(self, text: str, edits: int) -> set[int]:
        """Return the rows with a text of at most so many edits from this one, and the same numbers."""
        query = plain(text)
        numbers = _DIGITS.findall(query)
        lengths, texts = self._by_length
        some = texts[bisect_left(lengths, len(query) - edits) : bisect_right(lengths, len(query) + edits)]
        if not some:
            return set()
        distances = process.cdist([query], some, scorer=OSA.distance, score_cutoff=edits, dtype=np.int32)[0]
        found = (some[at] for at in np.flatnonzero(distances <= edits))
        return {row for text in found if _DIGITS.findall(text) == numbers for row in self._plain[text]}

    def having(self, rows: Collection[int], *parts: str) -> set[int]:
        """Return those rows whose addresses have all these parts besides the name."""
        wanted, keys = {key(part) for part in parts}, self._keys_of_parts
        for row in rows:
            if row not in keys:
                keys[row] = frozenset(map(key, self._parts_of(row)))
        return {row for row in rows if wanted <= keys[row]}

    def having_close(self, rows: Collection[int], text: str, edits: int) -> set[int]:
        """Return those rows that have a part of at most so many edits from a text."""
        rows, query = _few(rows), plain(text)
        return {row for row in rows if any(edit_distance(query, plain(p)) <= edits for p in self._parts_of(row))}

    def of_category(self, rows: Collection[int], words: str) -> set[int]:
        """Return those rows that have a category, or in scripts without spaces a name, that ends with these words.

        The last word says the kind: a sushi restaurant is a restaurant, a 公共停车场 is a 停车场.
        """
        units = has_units(words)
        end = key(words) if units else f" {fold(words)}"
        found = set()
        for row in _few(rows):
            poi = self.poi(row)
            texts = [one for category in poi.categories for one in category.split("|")] + [poi.name] * units
            if any((key(text) if units else f" {fold(text)}").endswith(end) for text in texts):
                found.add(row)
        return found

    def beside(self, rows: Collection[int], others: Collection[int], metres: float) -> set[int]:
        """Return those rows that are within a distance of one of the others."""
        a, b = (np.array(sorted(_few(some)), np.int64) for some in (rows, others))
        if not len(a) or not len(b):
            return set()
        distances = haversine_m(self.lng[a][:, None], self.lat[a][:, None], self.lng[b], self.lat[b])
        return set(a[(distances <= metres).any(axis=1)].tolist())

    def nearest(self, rows: Collection[int], lng: float, lat: float, slack_m: float) -> set[int]:
        """Return the row nearest to a location, and those that are at most ``slack_m`` farther away."""
        listed = list(rows)
        metres = haversine_m(lng, lat, self.lng[listed], self.lat[listed])
        metres = np.where(np.isfinite(metres), metres, np.inf)
        return {row for row, own in zip(listed, metres, strict=True) if own <= metres.min() + slack_m}

    def around(self, rows: Collection[int], metres: float) -> set[int]:
        """Return all rows within a distance of one of these."""
        located, tree = self._tree
        points = _on_sphere(self.lng[list(rows)], self.lat[list(rows)])
        points = points[np.isfinite(points).all(axis=1)]
        found = tree.query_ball_point(points, 2 * EARTH_RADIUS_M * np.sin(metres / 2 / EARTH_RADIUS_M))
        return {int(located[at]) for some in found for at in some}

    def neighbours(self, row: int) -> list[int]:
        """Return the nearest POIs within ``NEIGHBOUR_M`` whose names differ from that of the row, nearest first."""
        located, tree = self._tree
        if not np.isfinite(self.lng[row] + self.lat[row]):
            return []
        point = _on_sphere(self.lng[row], self.lat[row])
        _, at = tree.query(point, k=range(1, 3 * NEIGHBOURS + 1), distance_upper_bound=NEIGHBOUR_M)
        own, out = key(self.poi(row).name), []
        for other in located[at[at < len(located)]].tolist():
            if key(self.poi(other).name) not in ("", own):
                out.append(other)
        return out[:NEIGHBOURS]

    def _parts_of(self, row: int) -> list[str]:
        """Return the parts of an address besides the name, and its street without details and number."""
        street = self.poi(row).street
        texts = [one for part in _COMMA.split(self._addresses[row])[1:] for one in part.split("|")]
        return [*texts, street, stem(street)]

    @cached_property
    def _readings(self) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {}
        for folded in self._exact:
            out.setdefault(reading(folded), []).append(folded)
        return out

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._plain)

    @cached_property
    def _joined(self) -> str:
        return "\n".join(self._sorted)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(len(text) + 1 for text in self._sorted[:-1])])

    @cached_property
    def _by_length(self) -> tuple[list[int], list[str]]:
        texts = sorted(self._plain, key=len)
        return [len(text) for text in texts], texts

    @cached_property
    def _tree(self) -> tuple[NDArray[np.int64], cKDTree]:
        """The rows with a location, and a tree of their points in metres; no row if all have the same location."""
        located = np.flatnonzero(np.isfinite(self.lng) & np.isfinite(self.lat))
        if len(located) and np.ptp(self.lng[located]) + np.ptp(self.lat[located]) == 0:
            located = located[:0]
        return located, cKDTree(_on_sphere(self.lng[located], self.lat[located]))


def _few(rows: Collection[int]) -> Collection[int]:
    """Return the rows, or none of them if they are too many to compare."""
    return rows if len(rows) <= MAX_COMPARED else ()


def _on_sphere(lng: ArrayLike, lat: ArrayLike) -> NDArray[np.float64]:
    """Return points in metres from the centre of the earth. Shape: (N,), (N,) -> (N, 3)."""
    x, y = np.radians(lng), np.radians(lat)
    return EARTH_RADIUS_M * np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], axis=-1)


def _common_last_part(addresses: Sequence[str]) -> str:
    """Return the last part of more than half of the addresses of three or more parts: their city; "" for none."""
    last = Counter(text.rpartition(",")[2].strip() for text in addresses if text.count(",") > 1)
    city, count = max(last.items(), key=lambda item: item[1], default=("", 0))
    return city if 2 * count > last.total() and not _DIGIT.search(city) else ""
