"""Memory-mapped vectors on disk, in shards of equally many rows."""

from __future__ import annotations

import io
import mmap
import warnings
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.files import atomic_path

if TYPE_CHECKING:
    import torch

SHARDS = "vectors"


def shard_path(folder: Path, number: int) -> Path:
    """Return the file of shard ``number``."""
    return folder / SHARDS / f"{number:06d}.npy"


def shard_count(rows: int, shard_rows: int) -> int:
    """Return the number of shards that hold ``rows`` rows; the last one may be shorter."""
    return -(-rows // shard_rows)


def write_shard(path: Path, rows: NDArray[Any]) -> None:
    """Write an array to a .npy file atomically. Raises InputError, such as for a full disk."""
    content = io.BytesIO()  # the error of np.save for a full disk has no reason
    np.save(content, rows)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def open_mapped(path: Path) -> NDArray[Any]:
    """Memory-map the array of a .npy file read-only, as a plain array: slicing a ``np.memmap`` takes longer.

    Raises:
        OSError, ValueError, EOFError: The file is missing or damaged.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except TokenError as error:  # numpy reads the header as Python text
        raise ValueError(f"cannot parse the header of {path.name}") from error


def release_pages(rows: NDArray[Any]) -> None:
    """Release the memory pages of a mapped array from this process; the system may keep them in its file cache."""
    mapping: Any = getattr(rows, "_mmap", None) or getattr(rows.base, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        mapping.madvise(mmap.MADV_DONTNEED)


def shared_tensor(rows: NDArray[Any]) -> torch.Tensor:
    """Return a mapped array as a tensor that shares its memory and must not be written to."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(rows)
