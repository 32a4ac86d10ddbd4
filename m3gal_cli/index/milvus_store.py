"""The Milvus collection of a segment. An entity is a POI: row (primary key), vector, lng, lat, address."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Progress, Vectors
from m3gal_cli.errors import InputError
from m3gal_cli.index.segment import Segment

if TYPE_CHECKING:
    from pymilvus import MilvusClient

SCHEMA_VERSION = 1  # part of the collection name
TOKEN = "M3GAL_MILVUS_TOKEN"
LITE_TIMEOUT_S = 300.0  # Milvus Lite runs in this process: it may be slow, but it cannot be unreachable
BUILD_TIMEOUT_S = 1800.0  # for loading a collection, or without progress of its vector index
POLL_S = 0.2
STALENESS_S = 10.0  # after a write, searches are strongly consistent for so long; bounded ones lag by 5 s by default
MAX_ADDRESS_BYTES = 65535  # longest VARCHAR of Milvus
HNSW = {"M": 16, "efConstruction": 200}  # links of a node, candidates while building (Malkov and Yashunin 2020)
OWNER = "m3gal.index"  # property of a collection
NAME_PATTERN = re.compile("m3gal(_[0-9a-f]{16}){2}")

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class MilvusSettings:
    """Sizes and time limits of a Milvus collection and its searches."""

    timeout_s: float = 8.0  # time limit of a call to a server
    batch_rows: int = 1000  # rows written at once
    max_flat_rows: int = 200_000  # a scan of so many takes some 60 ms; above, a server builds a graph, in minutes
    max_hits: int = 16384  # most candidates that Milvus returns for a query
    extra_hits: int = 16  # candidates requested beyond k
    hits_per_call: int = 200_000  # candidates of all queries of a call


class MilvusStore:
    """The collection of a segment, which is created if it does not exist. Fill it before a search."""

    def __init__(self, segment: Segment, uri: str, settings: MilvusSettings) -> None:
        self.segment, self.uri, self.settings, self.lite = segment, uri, settings, is_lite(uri)
        self.name = collection_name(segment)
        self.timeout_s = LITE_TIMEOUT_S if self.lite else settings.timeout_s
        self._limit = {"timeout": self.timeout_s}
        self._hnsw = not self.lite and len(segment) > settings.max_flat_rows
        self._written_at = -STALENESS_S
        self.client = self._connect()
        try:
            with self._translated_errors():
                self._create()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection. This process keeps a Milvus Lite file open until it ends."""
        self.client.close()

    def fill(self, progress: Progress, keep: Collection[str] = ()) -> None:
        """Write the rows that the collection lacks, and drop other collections of the index except ``keep``.

        Rows are written in ascending order, so their number is where to resume. If that does not complete the
        collection, all rows are written again. Raises InputError, also if another program wrote rows.
        """
        total, batch = len(self.segment), self.settings.batch_rows
        with self._translated_errors():
            count = self._count()
            done = count if count == total else min(count, total) // batch * batch
            progress(done, total)
            self._write(done, progress)
            if done < total and self._count() != total:
                self._write(0, progress)
                if (count := self._count()) != total:
                    what = f"the collection {self.name} holds {count:,} rows, the segment {total:,}"
                    raise self._error(what, "Another program writes to it. Drop the collection and start again.")
            self._await_vector_index()
            self._drop_former_collections(keep)

    def search(self, queries: Vectors, limit: int, expression: str) -> list[tuple[Rows, Vectors]]:
        """Return the ``limit`` best rows of each query and Milvus' scores of them, best first.

        The boolean ``expression`` over lng and lat selects the rows; "" selects all.
        """
        written_lately = time.monotonic() - self._written_at < STALENESS_S
        with self._translated_errors():
            answer = self.client.search(
                self.name,
                data=list(queries),
                filter=expression,
                limit=limit,
                output_fields=["row"],
                anns_field="vector",
                search_params={"metric_type": "IP", "params": {"ef": max(256, 2 * limit)} if self._hnsw else {}},
                consistency_level="Strong" if written_lately else "Bounded",
                **self._limit,
            )
        return [(np.asarray(hits.ids, np.int64), np.asarray(hits.distances, np.float32)) for hits in answer]

    def _connect(self) -> MilvusClient:
        client = _client_class(self.lite)
        folder = Path(self.uri).resolve().parent
        if self.lite and not folder.is_dir():
            raise InputError("no such folder", where=folder, hint="Create it first.")
        # A shared channel would remember the failures of earlier ones.
        options: dict[str, int] = {"grpc.use_local_subchannel_pool": 1}
        if self.lite:  # Milvus Lite closes connections that send keepalive pings
            options["grpc.keepalive_time_ms"] = 2**31 - 1
        token = "" if self.lite else os.environ.get(TOKEN, "")
        with self._translated_errors():
            return client(self.uri, token=token, dedicated=True, grpc_options=options, **self._limit)

    def _create(self) -> None:
        """Create the collection and its vector index if they do not exist, and load the collection."""
        client = self.client
        if not client.has_collection(self.name, **self._limit):
            more = {"consistency_level": "Bounded", "properties": {OWNER: owner_of(self.segment)}}
            client.create_collection(self.name, schema=self._schema(), **more, **self._limit)
        if not client.list_indexes(self.name, **self._limit):
            parameters = client.prepare_index_params()
            kind, build = ("HNSW", HNSW) if self._hnsw else ("FLAT", {})
            parameters.add_index("vector", index_type=kind, metric_type="IP", params=build)
            client.create_index(self.name, parameters, sync=False, **self._limit)
        client.load_collection(self.name, _async=True, **self._limit)
        end = time.monotonic() + BUILD_TIMEOUT_S
        while client.get_load_state(self.name, **self._limit)["state"].name != "Loaded":
            if time.monotonic() > end:
                raise self._error(f"the collection {self.name} is not loaded", "See the server's log.")
            time.sleep(POLL_S)

    def _schema(self) -> Any:
        from pymilvus import DataType

        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.segment.dim)
        schema.add_field("lng", DataType.DOUBLE)
        schema.add_field("lat", DataType.DOUBLE)
        schema.add_field("address", DataType.VARCHAR, max_length=MAX_ADDRESS_BYTES)
        return schema

    def _count(self) -> int:
        """Return the number of rows, including the latest writes."""
        count = "count(*)"
        answer = self.client.query(self.name, output_fields=[count], consistency_level="Strong", **self._limit)
        return int(answer[0][count])

    def _write(self, start: int, progress: Progress) -> None:
        """Write the rows from ``start`` on."""
        segment, total = self.segment, len(self.segment)
        for first in range(start, total, self.settings.batch_rows):
            rows = np.arange(first, min(first + self.settings.batch_rows, total), dtype=np.int64)
            addresses = segment.addresses_at(rows)
            self._check_lengths(rows, addresses)
            columns = rows.tolist(), segment.vectors(rows), segment.lng[rows], segment.lat[rows], addresses
            entities = [
                {"row": row, "vector": vector, "lng": float(lng), "lat": float(lat), "address": address}
                for row, vector, lng, lat, address in zip(*columns, strict=True)
            ]
            self.client.upsert(self.name, entities, **self._limit)
            self._written_at = time.monotonic()
            progress(first + len(rows), total)

    def _check_lengths(self, rows: Rows, addresses: list[str]) -> None:
        for row, address in zip(rows, addresses, strict=True):
            if len(address.encode()) > MAX_ADDRESS_BYTES:
                poi_id = self.segment.ids_at(np.array([row]))[0]
                what = f"poi_id {poi_id!r}: the address is longer than {MAX_ADDRESS_BYTES:,} bytes"
                hint = "Milvus cannot store it. Shorten it in the POI table, or use another --index."
                raise InputError(what, where=self.segment.path, hint=hint)

    def _drop_former_collections(self, keep: Collection[str]) -> None:
        """Drop the collections of earlier segments of this index, which have its owner property."""
        from pymilvus.exceptions import MilvusException

        owner = owner_of(self.segment)
        for name in self.client.list_collections(**self._limit):
            if NAME_PATTERN.fullmatch(name) and name not in (self.name, *keep):
                with suppress(MilvusException):  # the user may not drop it, or another process dropped it
                    if self.client.describe_collection(name, **self._limit).get("properties", {}).get(OWNER) == owner:
                        self.client.drop_collection(name, **self._limit)

    def _await_vector_index(self) -> None:
        """Wait until all rows are in the vector index; until then searches are slower or less accurate."""
        from pymilvus.exceptions import MilvusException

        state = self.client.describe_index(self.name, "vector", **self._limit)
        if int(state.get("indexed_rows", 0)) < len(self.segment):
            with suppress(MilvusException):  # a flush is slow and limited in rate; Milvus flushes by itself later
                self.client.flush(self.name, **self._limit)
        before, end = -1, 0.0
        while True:
            state = self.client.describe_index(self.name, "vector", **self._limit)
            pending = int(state.get("pending_index_rows", 0))
            if pending == 0 and state.get("state", "Finished") == "Finished":
                return
            if pending != before:
                before, end = pending, time.monotonic() + BUILD_TIMEOUT_S
            if state.get("state") == "Failed" or time.monotonic() > end:
                raise self._error(f"the vector index of {self.name} was not built", "See the server's log.")
            time.sleep(POLL_S)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise the errors of pymilvus and gRPC as InputError."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise self._translate(error) from error

    def _translate(self, error: BaseException) -> InputError:
        text, first_line = "".join(traceback.format_exception(error)), _first_line(error)
        if self.lite:
            hint = "Another process may use it, or another version of milvus-lite wrote it. Choose another path."
            return self._error(f"Milvus Lite cannot use this file ({first_line})", hint)
        if "UNAUTHENTICATED" in text or "PERMISSION_DENIED" in text or "auth check failure" in text:
            reason = "refuses the token" if os.environ.get(TOKEN) else "requires a token"
            return self._error(f"the Milvus server {reason}", f"Set {TOKEN} to user:password or to an API key.")
        if any(sign in text for sign in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "Fail connecting", "Retry timeout")):
            hint = f"Time limit: {self.timeout_s:g} s. Start the server; the next start continues after the last row."
            return self._error("no Milvus server answers", hint)
        return self._error(f"Milvus: {first_line}", "See the server's log. The index itself is complete.")

    def _error(self, what: str, hint: str) -> InputError:
        return InputError(what, where=without_password(self.uri), hint=hint)


def is_lite(uri: str) -> bool:
    """Return True for a path of Milvus Lite, False for the URI of a server. Raises InputError for other URIs."""
    if "://" not in uri and uri.endswith(".db"):
        return True
    try:
        parts = urlsplit(uri)
        if parts.scheme in ("http", "https", "tcp") and parts.hostname and parts.port != 0:
            return False
    except ValueError:  # invalid port or address
        pass
    hint = "Give --uri a path that ends in .db (Milvus Lite), or http://host:19530 (a server or a cluster)."
    raise InputError(f"{without_password(uri)!r} is not a Milvus URI", hint=hint)


def without_password(uri: str) -> str:
    """Return a URI without user and password."""
    scheme, mark, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path if mark else uri


def collection_name(segment: Segment) -> str:
    """Return the name of the collection of a segment: hashes of its model, and of its POIs and the schema."""
    model = {key: value for key, value in segment.record["model"].items() if key != "files"}
    parts = model, [segment.record["content"], len(segment), segment.dim, SCHEMA_VERSION]
    hashes = [hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16] for part in parts]
    return "_".join(["m3gal", *hashes])


def owner_of(segment: Segment) -> str:
    """Return a hash of host name and index folder, which is stored as a property of the collection."""
    place = [socket.gethostname(), str(segment.path.resolve().parents[1])]
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()


def _client_class(lite: bool) -> type[MilvusClient]:
    try:
        from pymilvus import MilvusClient

        if lite:
            import milvus_lite  # noqa: F401
    except ImportError as error:
        hint = "Install it with: pip install 'm3gal[milvus]'"
        raise InputError(f"a package for Milvus is missing ({error})", hint=hint) from error
    for name in ("pymilvus", "milvus_lite"):  # they log tracebacks of the errors that they raise
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return MilvusClient


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "message", "")).strip() or type(error).__name__
    return text.splitlines()[0][:200]
