"""Read the lines of a file or a stream as they arrive, and test whether the next line has already arrived."""

from __future__ import annotations

import codecs
import stat
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from m3gal_cli.errors import InputError
from m3gal_cli.files import opener_of, require_file

CHUNK = 1 << 16  # bytes; the capacity of a pipe
MAX_LINE_BYTES = 1 << 20
_WHITE = b" \t\r\n\v\f\x1e"  # with the record separator of RFC 8142


class BadInput(InputError):
    """A line, row or feature is invalid; the next one can still be read."""

    id: Any = None  # id of the query, if it is known


class Lines:
    """The lines of a source in UTF-8, without line ends and byte order mark.

    Args:
        read: Returns the bytes that have arrived; waits if there are none, and returns b"" at the end.
        name: Name of the source in errors.
        live: Whether the source is written while it is read.
        max_bytes: Largest size of a line, which bounds the memory; None for no limit.

    Attributes:
        number: Number of the last line, from 1.
    """

    def __init__(
        self, read: Callable[[], bytes], name: str, live: bool, max_bytes: int | None = MAX_LINE_BYTES
    ) -> None:
        self.name, self.live, self.number = name, live, 0
        self._read, self._max_bytes = read, max_bytes
        self._available: deque[bytes] = deque()
        self._pieces: list[bytes] = []  # parts of a line whose end has not arrived
        self._size = 0  # bytes of that line
        self._ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next line. Raises BadInput for a line that is not UTF-8 or is too long."""
        while not self._available:
            if self._ended:
                raise StopIteration
            self._fetch()
        self.number += 1
        return self._decode(self._available.popleft())

    def ready(self) -> bool:
        """Return whether a line that is not blank has arrived; True for a source that is not live."""
        return not self.live or any(line.strip(_WHITE) for line in self._available)

    def _fetch(self) -> None:
        try:
            chunk = self._read()
        except (OSError, EOFError, zlib.error) as error:
            hint = "The file may be incomplete: make it again."
            raise InputError(f"cannot read ({error})", where=self.name, hint=hint) from error
        if chunk:
            *ends, last = chunk.split(b"\n")
            for piece in ends:
                self._add(piece)
                self._finish_line()
            self._add(last)
        else:
            self._ended = True
            if self._size:
                self._finish_line()

    def _add(self, piece: bytes) -> None:
        if self._max_bytes is None or self._size <= self._max_bytes:  # a longer line is refused: do not keep it
            self._pieces.append(piece)
        self._size += len(piece)

    def _finish_line(self) -> None:
        self._available.append(b"".join(self._pieces))
        self._pieces, self._size = [], 0

    def _decode(self, line: bytes) -> str:
        where = f"{self.name}:{self.number}"
        if self._max_bytes is not None and len(line) > self._max_bytes:
            what = f"a line of more than {self._max_bytes:,} bytes, beginning {line[:40]!r}"
            raise BadInput(what, where=where, hint="Write one query a line.")
        try:
            return line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"the line is not UTF-8 ({error})", where=where, hint="Write the file as UTF-8.") from error


def utf8_reader(read: Callable[[], bytes], encoding: str) -> Callable[[], bytes]:
    """Return a reader that converts to UTF-8. A damaged character becomes a byte that UTF-8 does not have."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")

    def read_utf8() -> bytes:
        while data := read():
            if text := decoder.decode(data):
                return text.encode().replace("\ufffd".encode(), b"\xff")
        return decoder.decode(b"", True).encode().replace("\ufffd".encode(), b"\xff")

    return read_utf8


@contextmanager
def open_lines(
    source: Path | IO[Any], what: str, max_bytes: int | None = MAX_LINE_BYTES, encoding: str = "utf-8"
) -> Iterator[Lines]:
    """Open the lines of a file (gzip if its name ends in .gz), a named pipe or an open stream.

    Args:
        source: Path or open stream; an open stream is UTF-8.
        what: Name of the file in errors.
        max_bytes: See ``Lines``.
        encoding: Encoding of the file.

    Raises:
        InputError: The file is missing, empty or unreadable.
    """
    if not isinstance(source, Path):
        stream: Any = getattr(source, "buffer", source)
        yield Lines(lambda: stream.read1(CHUNK) or b"", "<stdin>", True, max_bytes)
        return
    live = is_stream(source)
    if not live:
        require_file(source, what)
    try:
        file = opener_of(source)(source, "rb")
    except OSError as error:
        raise InputError(f"cannot read ({error.strerror or error})", where=source, hint="Check the path.") from error
    with file:

        def read() -> bytes:
            return file.read1(CHUNK) or b""

        yield Lines(read if encoding == "utf-8" else utf8_reader(read, encoding), str(source), live, max_bytes)


def is_stream(path: Path) -> bool:
    """Return whether a path is a pipe, a terminal or another source that is written while it is read."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
