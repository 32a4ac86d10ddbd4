"""Read pickled datasets of the published code (``*.pth``) without running code from the file."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

from m3gal_cli.errors import InputError

PUBLISHED_CLASS = "src.dataset.rerank_train_dataset"

_DAMAGED = "cannot read the dataset: truncated, damaged, or not written by torch.save"
_FETCH = "Fetch it again, or use the .jsonl."
_MALFORMED = (  # errors of torch and its unpickler for broken bytes
    RuntimeError, EOFError, OSError, zipfile.BadZipFile, struct.error, ValueError, LookupError, TypeError,
    AttributeError, AssertionError,
)  # fmt: skip


class _PublishedDataset:
    """Stand-in for the published class, without its code. The unpickler sets the attributes."""

    ann: list[dict[str, Any]]


def resolve_dataset(path: Path) -> Path:
    """Return ``path``, or the .jsonl of the same name, which ``data geotes`` writes, if ``path`` is a missing .pth."""
    twin = path.with_suffix(".jsonl")
    return twin if path.suffix == ".pth" and not path.exists() and twin.exists() else path


def load_published_dataset(path: Path) -> list[dict[str, Any]]:
    """Return the GeoTES records of a pickled ``src.dataset.rerank_train_dataset``.

    The weights-only unpickler of torch creates tensors, containers and this one class only.

    Raises:
        InputError: The file is damaged, or has another format, class or content.
    """
    import torch

    try:
        with torch.serialization.safe_globals([(_PublishedDataset, PUBLISHED_CLASS)]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickle protocols
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        if foreign is None:
            raise InputError(_DAMAGED, where=path, hint=_FETCH) from error
        what = f"the pickle contains code that is not allowed: {foreign[1]}"
        hint = f"Use the .jsonl: only datasets of the class {PUBLISHED_CLASS} are read. No code was run."
        raise InputError(what, where=path, hint=hint) from error
    except _MALFORMED as error:
        raise InputError(_DAMAGED, where=path, hint=_FETCH) from error
    records = getattr(loaded, "ann", None)
    if not isinstance(loaded, _PublishedDataset) or not isinstance(records, list):
        raise InputError("not a dataset of the published code", where=path, hint=f"Expected {PUBLISHED_CLASS}.")
    return records
