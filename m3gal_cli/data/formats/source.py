"""The bytes and the text of a table file: unpacked, counted for progress, decoded."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import IO, Any

from m3gal_cli.data.lines import BadInput, utf8_reader
from m3gal_cli.errors import InputError

CHUNK = 1 << 20
MAX_ROW_BYTES = 1 << 26  # of a line, and of a JSON value: larger ones are damage, and would fill the memory
GZIP = b"\x1f\x8b"
READ_ERRORS = (OSError, EOFError, zlib.error)


class ByteStream:
    """The bytes of a file, unpacked if they are gzip; ``done`` counts the bytes of the file itself."""

    def __init__(self, raw: IO[bytes], packed: bool, name: str) -> None:
        self._raw, self._name = raw, name
        self._file: Any = gzip.GzipFile(fileobj=raw) if packed else raw

    @property
    def done(self) -> int:
        """Bytes of the file that were read."""
        return self._raw.tell()

    def read(self, size: int = CHUNK) -> bytes:
        """Return the next bytes; b"" at the end. Raises InputError."""
        try:
            data: bytes = self._file.read(size)
        except READ_ERRORS as error:
            hint = "The file may be incomplete: make or fetch it again."
            raise InputError(f"cannot read the file ({error})", where=self._name, hint=hint) from error
        return data


@dataclass(frozen=True)
class Source:
    """A file: where it is, and its name in messages, which differs for a file that was unpacked."""

    path: Path
    name: str

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    @contextmanager
    def open(self) -> Iterator[ByteStream]:
        """Open the bytes. Raises InputError."""
        try:
            raw = self.path.open("rb")
        except OSError as error:
            what = f"cannot read the file ({error.strerror or error})"
            raise InputError(what, where=self.name, hint="Check the path.") from error
        with raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            if self.path.suffix.lower() == ".gz" and not packed:
                what = "cannot read the file (its name ends in .gz, but it is not packed with gzip)"
                raise InputError(what, where=self.name, hint="Rename it, or fetch it again.")
            yield ByteStream(raw, packed, self.name)

    def head(self, size: int = 1 << 16) -> bytes:
        """Return the first bytes, unpacked."""
        with self.open() as stream:
            return stream.read(size)


@dataclass(frozen=True)
class LineBlock:
    """Lines of a text: the number of the first, the lines with their ends, and the error of the line that follows."""

    number: int
    lines: list[str]
    error: BadInput | None = None


def line_blocks(stream: ByteStream, name: str, encoding: str) -> Iterator[LineBlock]:
    """Yield the lines of a stream, about ``CHUNK`` bytes at a time, without a byte order mark.

    Raises:
        InputError: The file cannot be read, or a line is larger than ``MAX_ROW_BYTES``.
    """
    wide = encoding.startswith(("utf-16", "utf-32"))  # line ends are several bytes there
    read, codec = (utf8_reader(stream.read, encoding), "utf-8") if wide else (_with_line_ends(stream), encoding)
    number, rest = 1, b""
    while data := read():
        end = data.rfind(b"\n") + 1
        if not end:
            rest += data
            if len(rest) > MAX_ROW_BYTES:
                what = f"a line of more than {MAX_ROW_BYTES:,} bytes, beginning {rest[:40]!r}"
                raise InputError(what, where=f"{name}:{number}", hint="Is this a table?")
            continue
        for block in _decoded(rest + data[:end], number, name, (codec, encoding)):
            yield block
            number += len(block.lines) + (block.error is not None)
        rest = data[end:]
    yield from _decoded(rest, number, name, (codec, encoding))


def _decoded(data: bytes, number: int, name: str, coding: tuple[str, str]) -> Iterator[LineBlock]:
    """Yield whole lines as text, as one block if no line is damaged; ``coding``: of the bytes, and of the file."""
    codec, encoding = coding
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text:
        text = text.removeprefix("\ufeff") if number == 1 else text
        yield LineBlock(number, list(StringIO(text, newline="\n")))
        return
    lines: list[str] = []
    for at, line in enumerate(BytesIO(data), number):
        try:
            text = line.decode(codec)
            what = "the line contains a NUL byte" if "\0" in text else ""
        except UnicodeDecodeError as error:
            what = f"the line is not {encoding.upper()} ({error.reason}, byte {error.start + 1})"
        if what:
            hint = "Write the file as UTF-8, or repair the line."
            yield LineBlock(at - len(lines), lines, BadInput(what, where=f"{name}:{at}", hint=hint))
            lines = []
        else:
            lines.append(text.removeprefix("\ufeff") if at == 1 else text)
    yield LineBlock(number + data.count(b"\n") + (not data.endswith(b"\n")) - len(lines), lines)


def _with_line_ends(stream: ByteStream) -> Callable[[], bytes]:
    """Return a reader of bytes; a lone carriage return ends a line if the first bytes have no other line end."""
    data: bytes | None = stream.read()
    old = b"\n" not in (data or b"") and b"\r" in (data or b"")

    def read() -> bytes:
        nonlocal data
        part, data = stream.read() if data is None else data, None
        return part.replace(b"\r", b"\n") if old else part

    return read


def text_chunks(stream: ByteStream, name: str, encoding: str) -> Iterator[str]:
    """Yield the text of a stream in pieces. Raises InputError for bytes that are no text."""
    codec = "utf-8-sig" if encoding == "utf-8" else encoding
    decoder, line = codecs.getincrementaldecoder(codec)(), 1
    while True:
        data = stream.read()
        try:
            text = decoder.decode(data, not data)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            what = f"the text is not {encoding.upper()} ({error.reason})"
            raise InputError(what, where=f"{name}:{line}", hint="Write the file as UTF-8.") from error
        line += text.count("\n")
        if text:
            yield text
        if not data:
            return
