"""Which way an index is searched."""

from __future__ import annotations

from typing import get_args

import torch

from m3gal_cli.errors import InputError
from m3gal_cli.retrieval.bulk import Say
from m3gal_cli.retrieval.embed import Progress, QueryEncoder
from m3gal_cli.retrieval.exact import ExactSearcher
from m3gal_cli.retrieval.index import Index
from m3gal_cli.retrieval.searcher import Kind, Searcher

EXACT_POIS = 1_000_000  # up to so many, a CPU scans them all in a moment


def make_searcher(
    kind: Kind,
    index: Index,
    embedder: QueryEncoder,
    device: torch.device | str,
    uri: str | None,
    recall: float,
    say: Say,
    progress: Progress,
) -> Searcher:
    """The searcher of this kind.

    Args:
        kind: exact, ann (approximate), milvus, or auto: exact up to 1,000,000 POIs or on a GPU, else ann.
        embedder: the model, for queries to tune an approximate search on.
        device: where an exact search scans.
        uri: where Milvus answers, or its file; of milvus alone.
        recall: share of the exact answer that an approximate one holds.
        say, progress: are told what is made first, if something is.

    Raises:
        InputError: an unknown kind; a part that is not installed, or an engine that does not answer.
    """
    if kind not in get_args(Kind):
        raise InputError(f"unknown index {kind!r}", hint=f"Use one of: {', '.join(get_args(Kind))}.")
    if kind == "auto":
        kind = "exact" if torch.device(device).type != "cpu" or len(index) <= EXACT_POIS else "ann"
    if kind == "ann":
        from m3gal_cli.retrieval.ann import open_ann

        return open_ann(index, embedder, recall, say, progress)
    if kind == "milvus":
        if uri is None:
            hint = "Give --uri: http://HOST:19530 of a server, or a file of Milvus Lite such as pois.db."
            raise InputError("--index milvus needs a URI", hint=hint)
        from m3gal_cli.retrieval.milvus import open_milvus

        return open_milvus(index, uri, progress)
    return ExactSearcher(index, device)
