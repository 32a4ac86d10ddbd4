"""Memory that is freed but not given back."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Return freed memory to the system, where the C library can (glibc).

    Geometries and numpy's small arrays leave holes in the C heap that Python's own objects cannot use: after the joins
    over a country they are a third of the process.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
