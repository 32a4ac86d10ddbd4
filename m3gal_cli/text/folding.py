"""The folded form of a text, in which matching compares queries and addresses.

Words of alphabetic scripts become ASCII words in lower case. A unit is a letter of a script without spaces, such as
Han; units are not romanised. A space separates words, numbers and runs of units. Abbreviations have one form.
"""

from __future__ import annotations

import re

from m3gal_cli.text.normalise import normalise
from m3gal_cli.text.romanise import romanise

# Letters of scripts without spaces: Thai and Lao, Burmese, Khmer, kana and Han.
UNIT_RANGES = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x31FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_UNITS = "".join(f"{chr(low)}-{chr(high)}" for low, high in UNIT_RANGES)
_UNIT = re.compile(f"[{_UNITS}]")
_RUN = re.compile(rf"[{_UNITS}]+|[^\s{_UNITS}]+")
_PIECE = re.compile(r"\d+[a-z]?(?![a-z])|[a-z]+|\d+")
# Forms of a word that people use for each other, by their common form.
_ABBREVIATIONS = {
    "st": "street str saint sankt sainte",
    "rd": "road",
    "ave": "avenue av avda avenida",
    "blvd": "boulevard bd bvd boul",
    "dr": "drive",
    "ln": "lane",
    "hwy": "highway",
    "pkwy": "parkway",
    "pl": "place plaza plaz",
    "sq": "square",
    "ct": "court",
    "ter": "terrace",
    "ctr": "center centre",
    "bldg": "building",
    "mt": "mount",
    "ft": "fort",
    "n": "north",
    "s": "south",
    "e": "east",
    "w": "west",
    "and": "und og och ja et",
    "intl": "international",
    "univ": "university",
    "hosp": "hospital",
    "stn": "station",
    "gt": "gate gaten gatan",
}
_COMMON_FORM = {form: short for short, forms in _ABBREVIATIONS.items() for form in forms.split()}
_UNIT_FORMS = str.maketrans("幢號樓棟層東門", "栋号楼栋层东门")


def has_units(text: str) -> bool:
    """Return whether a text contains a letter of a script without spaces."""
    return not text.isascii() and _UNIT.search(text) is not None


def is_unit(letter: str) -> bool:
    """Return whether a letter is of a script without spaces."""
    return _UNIT.match(letter) is not None


def fold(text: str) -> str:
    """Return the folded form of a text."""
    text = normalise(text.replace("&", " and ").replace("'", "").replace("’", ""))
    if not text.isascii():
        runs = _RUN.findall(text)
        text = " ".join(run.translate(_UNIT_FORMS) if _UNIT.match(run) else romanise(run) for run in runs)
        pieces = [piece for run in text.split() for piece in ([run] if _UNIT.match(run) else _PIECE.findall(run))]
    else:
        pieces = _PIECE.findall(text)
    return " ".join(_COMMON_FORM.get(piece, piece) for piece in pieces)


def reading(folded: str) -> str:
    """Return the ASCII reading of a folded text, without spaces inside runs of units."""
    return folded if folded.isascii() else romanise(folded)
