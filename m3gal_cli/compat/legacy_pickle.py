"""The published code's pickled datasets (``*.pth``), read without running anything that they carry."""

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
_FETCH = "Fetch it again, or take the .jsonl instead."
_MALFORMED = (  # what torch and its unpickler raise on broken bytes
    RuntimeError, EOFError, OSError, zipfile.BadZipFile, struct.error, ValueError, LookupError, TypeError,
    AttributeError, AssertionError,
)  # fmt: skip


class _PublishedDataset:
    """Stands in for the published class: its attributes are filled by the unpickler, its code never existed here."""

    ann: list[dict[str, Any]]


def load_published_dataset(path: Path) -> list[dict[str, Any]]:
    """The GeoTES records inside a pickled ``src.dataset.rerank_train_dataset``.

    torch's weights-only unpickler builds tensors, containers and exactly this one class; anything else is refused.

    Raises:
        InputError: the file is damaged or no torch file, holds another class, or holds no list of records.
    """
    import torch

    try:
        with torch.serialization.safe_globals([(_PublishedDataset, PUBLISHED_CLASS)]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what matters is raised
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        if foreign is None:
            raise InputError(_DAMAGED, where=path, hint=_FETCH) from error
        hint = f"Only datasets of the class {PUBLISHED_CLASS} are read; nothing was run. Take the .jsonl instead."
        raise InputError(f"the pickle names code that is not allowed: {foreign[1]}", where=path, hint=hint) from error
    except _MALFORMED as error:
        raise InputError(_DAMAGED, where=path, hint=_FETCH) from error
    records = getattr(loaded, "ann", None)
    if not isinstance(loaded, _PublishedDataset) or not isinstance(records, list):
        raise InputError("is not a dataset of the published code", where=path, hint=f"Expected {PUBLISHED_CLASS}.")
    return records
