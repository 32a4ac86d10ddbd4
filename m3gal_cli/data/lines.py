"""Lines of a file or a stream as they arrive: what is at hand can be told from what must be waited for."""

from __future__ import annotations

import gzip
import stat
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from m3gal_cli.errors import InputError
from m3gal_cli.files import require_file

CHUNK = 1 << 16  # bytes; what a pipe holds
LONGEST = 1 << 20  # bytes of a line


class BadInput(InputError):
    """A line, row or feature that is none; the next one can be read."""

    id: Any = None  # its own, where it could be read


class Lines:
    """The lines of a source, UTF-8, without their ends; a byte order mark is dropped.

    Args:
        read: gives the next bytes, as many as are there; waits where there are none; nothing at the end.
        name: what errors call the source.
        live: whether reading may have to wait for somebody to write.
        longest: bytes of a line, so that memory is bounded; None: any.
    """

    def __init__(self, read: Callable[[], bytes], name: str, live: bool, longest: int | None = LONGEST) -> None:
        self.name, self.live, self.number = name, live, 0
        self._read, self._longest = read, longest
        self._arrived: deque[bytes] = deque()
        self._rest: list[bytes] = []  # of a line whose end has not arrived
        self._held = 0
        self._ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """The next line. Raises BadInput where it is no text or too long; the one after it can be asked for then."""
        while not self._arrived:
            if self._ended:
                raise StopIteration
            self._fetch()
        self.number += 1
        return self._text(self._arrived.popleft())

    def ready(self) -> bool:
        """Whether the next line is at hand."""
        return bool(self._arrived) or not self.live

    def rest(self) -> str:
        """All that is left, as one text."""
        return "\n".join(self)

    def _fetch(self) -> None:
        try:
            chunk = self._read()
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"cannot read ({error})", where=self.name, hint="Is it whole? Make it again.") from error
        if chunk:
            *ends, last = chunk.split(b"\n")
            for part in ends:
                self._hold(part)
                self._arrive()
            self._hold(last)
        else:
            self._ended = True
            if self._held:
                self._arrive()

    def _hold(self, part: bytes) -> None:
        if self._longest is None or self._held <= self._longest:  # a longer line is refused: it need not be kept
            self._rest.append(part)
        self._held += len(part)

    def _arrive(self) -> None:
        self._arrived.append(b"".join(self._rest))
        self._rest, self._held = [], 0

    def _text(self, line: bytes) -> str:
        where = f"{self.name}:{self.number}"
        if self._longest is not None and len(line) > self._longest:
            what = f"a line of more than {self._longest:,} bytes, beginning {line[:40]!r}"
            raise BadInput(what, where=where, hint="Write one query a line.")
        try:
            return line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"no UTF-8 text ({error})", where=where, hint="Write the file as UTF-8.") from error


@contextmanager
def open_lines(source: Path | IO[Any], what: str, longest: int | None = LONGEST) -> Iterator[Lines]:
    """Lines of a file (through gzip if its name ends in .gz), a named pipe or an open stream.

    Raises:
        InputError: missing or empty file.
    """
    if not isinstance(source, Path):
        stream: Any = getattr(source, "buffer", source)
        yield Lines(lambda: _bytes(stream.read1(CHUNK)), "<stdin>", True, longest)
        return
    live = is_stream(source)
    if not live:
        require_file(source, what)
    with _opened(source) as file:
        yield Lines(lambda: _bytes(file.read1(CHUNK)), str(source), live, longest)


def _opened(path: Path) -> Any:
    try:
        return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read ({error.strerror or error})", where=path, hint="Check the path.") from error


def is_stream(path: Path) -> bool:
    """Whether a path is a pipe, a terminal or the like, which somebody writes into as it is read."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _bytes(chunk: bytes | None) -> bytes:
    return chunk or b""
