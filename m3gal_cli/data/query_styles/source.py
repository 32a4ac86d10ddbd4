"""The row that a query is made from, and changes of its name."""

from __future__ import annotations

import random
import re

from m3gal_cli.data.query_styles.table import QueryTable, edit_distance, plain
from m3gal_cli.text import perturbations
from m3gal_cli.text.folding import has_units

Made = tuple[str, set[int]]  # a query and its gold

MAX_EDITS = 2
# Least letters of a name with one and with two typing errors: of words, and of units (``text.folding``).
EDIT_LETTERS = {1: (4, 3), 2: (6, 5)}
COMMA_SHARE, UNITS_JOINED, LOWER_SHARE, NO_BRACKETS_SHARE = 0.5, 0.7, 0.5, 0.3
_BRACKETS = re.compile(r"[()（）\[\]【】]")


class Source:
    """A row that a query is made from.

    Attributes:
        table: The table.
        row: The row.
        rng: Random numbers.
        poi: Parts of its address.
        name: Its name as a person types it: often in lower case, sometimes without brackets.
        category: Its most specific category; "" for none.
        units: Whether its name is of a script without spaces.
        same: The rows with the same name.
    """

    def __init__(self, table: QueryTable, row: int, rng: random.Random) -> None:
        self.table, self.row, self.rng = table, row, rng
        self.poi = table.poi(row)
        name = self.poi.name.lower() if rng.random() < LOWER_SHARE else self.poi.name
        self.name = without_brackets(name) if rng.random() < NO_BRACKETS_SHARE else name
        self.category = self.poi.categories[-1].partition("|")[0] if self.poi.categories else ""
        self.units = has_units(name)
        self.same = table.exactly(name)
        self._space = "" if self.units and rng.random() < UNITS_JOINED else " "

    def join(self, *parts: str, comma: bool = False) -> str:
        """Join texts by a space or nothing (scripts without spaces); with ``comma`` often by a comma."""
        return (", " if comma and self.rng.random() < COMMA_SHARE else self._space).join(parts)

    def with_parts(self, text: str, *parts: str) -> Made:
        """Return a query whose gold has the name and these parts."""
        return text, self.table.having(self.same, *parts)

    def close(self, text: str) -> set[int]:
        """Return the rows whose names need no more edits to become this text than the name of the source.

        No row is returned for a text that typing errors made the name of another POI.
        """
        edits = edit_distance(plain(text), plain(self.poi.name))
        if edits > MAX_EDITS or self.table.exactly(text) - self.same:
            return set()
        return self.table.close(text, edits)

    def with_street(self, made: Made, share: float) -> Made:
        """Return a query with the street behind it in this share of the cases."""
        (text, gold), street = made, self.poi.street
        if not street or self.rng.random() >= share:
            return made
        return self.join(text, street, comma=True), self.table.having(gold, street)


def without_brackets(text: str) -> str:
    """Return a text without brackets; the text inside stays."""
    return " ".join(_BRACKETS.sub("" if has_units(text) else " ", text).split())


def with_edits(text: str, count: int, rng: random.Random) -> str:
    """Return a text with one or two typing errors; "" if it is too short."""
    if len(plain(text)) < EDIT_LETTERS[count][has_units(text)]:
        return ""
    made = (perturbations.one_edit if count == 1 else perturbations.two_edits)(text, rng)
    return made if made != text else ""


def beginning(text: str, rng: random.Random) -> str:
    """Return the first 40% to 80% of a text, at least 3 letters (2 of scripts without spaces); "" if that is all."""
    least = 2 if has_units(text) else 3
    text = without_brackets(text)
    cut = text[: max(least, round(rng.uniform(0.4, 0.8) * len(text)))].strip(" '’-,.&")
    return cut if least <= len(plain(cut)) < len(plain(text)) else ""
