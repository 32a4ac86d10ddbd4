"""Which way an index is searched."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

from m3gal_cli.encoders.encoder import Progress, QueryEncoder
from m3gal_cli.errors import InputError
from m3gal_cli.index.builder import Log
from m3gal_cli.index.exact_numpy import PLAIN_ROWS, PlainSearcher
from m3gal_cli.index.index import Index
from m3gal_cli.index.searcher import Kind, Searcher

if TYPE_CHECKING:
    import torch

EXACT_POIS = 1_000_000  # up to so many, a CPU scans them all in a moment


def make_searcher(
    kind: Kind,
    index: Index,
    encoder: QueryEncoder,
    device: Callable[[], torch.device],
    uri: str | None,
    recall: float,
    log: Log,
    progress: Progress,
) -> Searcher:
    """The searcher of this kind.

    Args:
        kind: exact, ann (approximate), milvus, or auto: exact up to 1,000,000 POIs, on a GPU or for recall 1, else ann.
        embedder: the model, for queries to tune an approximate search on.
        device: says where an exact search scans; only asked where that matters, as the answer takes torch.
        uri: where Milvus answers, or its file; of milvus alone.
        recall: share of the exact answer that an approximate one holds.
        say, progress: are told what is made first, if something is.

    Raises:
        InputError: an unknown kind; a part that is not installed, or an engine that does not answer.
    """
    if kind not in get_args(Kind):
        raise InputError(f"unknown index {kind!r}", hint=f"Use one of: {', '.join(get_args(Kind))}.")
    if kind == "auto":
        kind = "exact" if recall == 1 or len(index) <= EXACT_POIS or device().type != "cpu" else "ann"
    if kind == "ann":
        from m3gal_cli.index.ann import open_ann

        return open_ann(index, encoder, recall, log, progress)
    if kind == "milvus":
        if uri is None:
            hint = "Give --uri: http://HOST:19530 of a server, or a file of Milvus Lite such as pois.db."
            raise InputError("--index milvus needs a URI", hint=hint)
        from m3gal_cli.index.milvus import open_milvus

        return open_milvus(index, uri, progress)
    if len(index) <= PLAIN_ROWS and "torch" not in sys.modules:
        return PlainSearcher(index, device)
    from m3gal_cli.index.exact import ExactSearcher

    return ExactSearcher(index, device())
