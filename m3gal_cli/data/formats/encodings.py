"""Recognise the encoding of a text file."""

from __future__ import annotations

import codecs

from m3gal_cli.data.formats.source import MAX_ROW_BYTES, Source
from m3gal_cli.errors import InputError

CONTROL = bytes(set(range(32)) - set(b"\t\n\r"))
SAMPLE_LINES = 2000  # lines with other characters than ASCII
LINE_BYTES = 1 << 14  # of a line in the sample
BOMS = [
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
# Encodings before UTF-8 that tables come in, with their names in messages; chardet decides between them.
LEGACY = {
    "gb18030": "GB18030",
    "big5hkscs": "Big5",
    "cp932": "Shift-JIS",
    "euc_jis_2004": "EUC-JP",
    "cp949": "EUC-KR",
    "cp1250": "Windows-1250",
    "cp1251": "Windows-1251",
    "cp1252": "Windows-1252",
    "cp1253": "Windows-1253",
    "cp1254": "Windows-1254",
    "cp1255": "Windows-1255",
    "cp1256": "Windows-1256",
    "cp1257": "Windows-1257",
    "koi8_r": "KOI8-R",
}
# On one or two short lines chardet may prefer a rare encoding by a hair: these win unless another is clearly better.
COMMON = ("gb18030", "cp1252")
CLEARLY = 1.8  # times the confidence


def recognise_encoding(source: Source) -> str:
    """Return the Python name of the encoding of a text file; UTF-8 if at least half of its lines are.

    Raises:
        InputError: The file is unreadable, or it is no text.
    """
    head = source.head()
    for mark, encoding in BOMS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head and (encoding := _utf16_without_mark(head)):
        return encoding
    lines = _lines_beyond_ascii(source)
    valid = sum(_is_utf8(line) for line in lines)
    if 2 * valid >= len(lines):
        return "utf-8"
    return _legacy(b"\n".join(lines))


def encoding_name(encoding: str) -> str:
    """Return the name of an encoding for messages."""
    return LEGACY.get(encoding, encoding.upper())


def _utf16_without_mark(head: bytes) -> str:
    """Return the kind of UTF-16 in which digits and delimiters make every other byte 0; "" for other files."""
    head = head[: len(head) // 2 * 2]
    even, odd = head[::2].count(0), head[1::2].count(0)
    few, many = sorted((even, odd))
    if many * 10 < len(head) // 2 or few * 50 > many:
        return ""
    encoding = "utf-16-be" if even > odd else "utf-16-le"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return ""
    return encoding if "\n" in text or "\r" in text else ""


def _lines_beyond_ascii(source: Source) -> list[bytes]:
    """Return the first lines that are not ASCII."""
    lines: list[bytes] = []
    with source.open() as stream:
        rest = b""  # the beginning of a line
        while len(lines) < SAMPLE_LINES and (data := stream.read()):
            if data.isascii() and rest.isascii():
                rest = b""
                continue
            *whole, rest = (rest + data).split(b"\n")
            lines += [line[:LINE_BYTES] for line in whole if not line.isascii()]
            rest = rest[:LINE_BYTES] if len(rest) > MAX_ROW_BYTES else rest
        if not rest.isascii():
            lines.append(rest[:LINE_BYTES])
    return lines[:SAMPLE_LINES]


def _is_utf8(line: bytes) -> bool:
    """Return whether a line is UTF-8; it may end within a character, because long lines are cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(line)
    except UnicodeDecodeError:
        return False
    return True


def _legacy(sample: bytes) -> str:
    import chardet

    found = chardet.detect_all(sample, ignore_threshold=True, include_encodings=list(LEGACY), compat_names=False)
    confidence = {codecs.lookup(f["encoding"]).name: f["confidence"] for f in found if f["encoding"]}
    best = max(confidence, key=lambda name: confidence[name], default="cp1252")
    for name in COMMON:
        if confidence.get(name, 0) * CLEARLY >= confidence.get(best, 1):
            best = name
            break
    return best


def refuse_binary(source: Source) -> None:
    """Raise InputError for a file that is no text: a tenth of its first bytes are control characters."""
    head = source.head()
    if head.startswith(tuple(mark for mark, _ in BOMS)) or _utf16_without_mark(head):
        return
    if b"\0" in head and len(head.translate(None, CONTROL)) < 0.9 * len(head):
        hint = "Give a .csv, .parquet, .jsonl, .geojson or .xlsx file."
        raise InputError("this is not a table (the file is binary)", where=source.name, hint=hint)
