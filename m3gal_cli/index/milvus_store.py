"""An index as a collection of Milvus: connected to, filled, and gone on with where a start before was cut off.

A row of the collection is a POI: row (its number in the index, the primary key), vector (float32), lng, lat, address.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.encoder import Progress, Vectors
from m3gal_cli.errors import InputError
from m3gal_cli.index.index import Index

if TYPE_CHECKING:
    from pymilvus import MilvusClient

LAYOUT = 1  # of the collection; another one gets another name
TOKEN = "M3GAL_MILVUS_TOKEN"
TIMEOUT_S = 8.0  # of a call: a server that says nothing is told of before ten seconds are over
LITE_TIMEOUT_S = 300.0  # Milvus Lite runs in this process: it may be slow, it cannot be away
BUILD_S = 1800.0  # for an index to grow by a row, or a collection to be loaded
POLL_S = 0.2
SETTLING_S = 10.0  # after this, a read of bounded staleness (5 s by Milvus' default) finds what was written
BATCH_ROWS = 1000
RANGE_ROWS = 8192  # looked through at once for rows that are missing; Milvus answers with 16,384 at most
ADDRESS_BYTES = 65535  # Milvus' longest text
FLAT_ROWS = 200_000  # up to here a server scans all vectors, exactly, in some 60 ms; a graph takes minutes to make
GRAPH = {"M": 16, "efConstruction": 200}
OWNER = "m3gal.index"  # property of a collection
NAME = re.compile("m3gal(_[0-9a-f]{16}){2}")  # of a collection
INSTALL = "pip install 'm3gal[milvus]'"

Rows = NDArray[np.int64]


class Store:
    """The collection of an index, made where it is not there. Fill it before it is searched.

    Args:
        index: what the collection holds.
        uri: a path that ends in ``.db`` (Milvus Lite), or the ``http://host:19530`` of a server or cluster.

    Raises:
        InputError: no pymilvus, no server, a token that is not taken, a collection of that name of another shape.
    """

    def __init__(self, index: Index, uri: str) -> None:
        self.index, self.uri, self.lite = index, uri, is_file(uri)
        self.name = collection_name(index)
        self.graph = not self.lite and len(index) > FLAT_ROWS
        self._written = -SETTLING_S
        self._client = self._connect()
        try:
            with self._told():
                self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Part from the server. A Milvus Lite file stays with this process until it ends."""
        self._client.close()

    @property
    def timeout_s(self) -> float:
        """Longest wait for an answer."""
        return LITE_TIMEOUT_S if self.lite else TIMEOUT_S

    def fill(self, progress: Progress) -> None:
        """Write what is missing. Rows are written in their order, so that what is there is known by its number.

        Args:
            progress: rows that are there, and rows in all.

        Raises:
            InputError: lost connection, rows that are not the index's, a text longer than Milvus takes.
        """
        total = len(self.index)
        with self._told():
            there = self._count()
            done = min(there, total) // BATCH_ROWS * BATCH_ROWS if there != total else total
            progress(done, total)
            for first in range(done, total, BATCH_ROWS):
                rows = np.arange(first, min(first + BATCH_ROWS, total), dtype=np.int64)
                self._write(rows)
                progress(first + len(rows), total)
            if done < total and self._count() != total:  # what was there was not the first rows
                self._mend()
            self._await_index()
            self._drop_former()

    def hits(self, queries: Vectors, limit: int, condition: str) -> list[tuple[Rows, Vectors]]:
        """What the engine finds best for each query: rows and its own scores, best first; ``limit`` at most.

        Args:
            condition: boolean expression over lng and lat; empty for none.
        """
        fresh = time.monotonic() - self._written < SETTLING_S
        with self._told():
            answer = self._client.search(
                self.name,
                data=list(queries),
                filter=condition,
                limit=limit,
                output_fields=["row"],
                anns_field="vector",
                search_params={"metric_type": "IP", "params": {"ef": max(256, 2 * limit)} if self.graph else {}},
                timeout=self.timeout_s,
                consistency_level="Strong" if fresh else "Bounded",
            )
        return [(np.asarray(own.ids, np.int64), np.asarray(own.distances, np.float32)) for own in answer]

    def _connect(self) -> MilvusClient:
        client = _client_class(self.lite)
        place = Path(self.uri)
        if self.lite and not place.resolve().parent.is_dir():
            raise InputError("no such folder", where=place.resolve().parent, hint="Make it first.")
        token = "" if self.lite else os.environ.get(TOKEN, "")
        # A channel of our own has no memory of one that failed; and Lite takes pymilvus' pings for an attack.
        options: dict[str, int] = {"grpc.use_local_subchannel_pool": 1}
        if self.lite:
            options["grpc.keepalive_time_ms"] = 2**31 - 1
        with self._told():
            return client(self.uri, token=token, timeout=self.timeout_s, dedicated=True, grpc_options=options)

    def _prepare(self) -> None:
        """Make the collection and its index, as far as they are not there, and load it."""
        client, wait = self._client, {"timeout": self.timeout_s}
        if not client.has_collection(self.name, **wait):
            more = {"consistency_level": "Bounded", "properties": {OWNER: owner(self.index)}}
            client.create_collection(self.name, schema=self._schema(), **more, **wait)
        self._check(client.describe_collection(self.name, **wait))
        if not client.list_indexes(self.name, **wait):
            parameters = client.prepare_index_params()
            kind, build = ("HNSW", GRAPH) if self.graph else ("FLAT", {})
            parameters.add_index("vector", index_type=kind, metric_type="IP", params=build)
            client.create_index(self.name, parameters, sync=False, **wait)
        client.load_collection(self.name, _async=True, **wait)
        end = time.monotonic() + BUILD_S
        while client.get_load_state(self.name, **wait)["state"].name != "Loaded":
            if time.monotonic() > end:
                raise self._error(f"the collection {self.name} is not loaded", "See the server's log.")
            time.sleep(POLL_S)

    def _schema(self) -> Any:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.index.dim)
        schema.add_field("lng", DataType.DOUBLE)
        schema.add_field("lat", DataType.DOUBLE)
        schema.add_field("address", DataType.VARCHAR, max_length=ADDRESS_BYTES)
        return schema

    def _check(self, described: dict[str, Any]) -> None:
        fields = {field["name"]: field for field in described["fields"]}
        if not {"row", "vector", "lng", "lat"} <= set(fields):
            what = f"the collection {self.name} has the fields {', '.join(fields)}, which are not m3gal's"
        elif (dim := int(fields["vector"]["params"]["dim"])) != self.index.dim:
            what = f"the collection {self.name} holds vectors of {dim} dimensions, the index of {self.index.dim}"
        else:
            return
        raise self._error(what, "Drop the collection: it is made and filled anew.")

    def _count(self) -> int:
        """Rows that are there, all that was written before included."""
        (answer,) = self._query("", ["count(*)"])
        return int(answer["count(*)"])

    def _query(self, condition: str, fields: list[str], **more: Any) -> list[dict[str, Any]]:
        found = self._client.query(
            self.name,
            filter=condition,
            output_fields=fields,
            timeout=self.timeout_s,
            consistency_level="Strong",
            **more,
        )
        return list(found)

    def _mend(self) -> None:
        """Look through all rows and write those that are missing."""
        total = len(self.index)
        for first in range(0, total, RANGE_ROWS):
            last = min(first + RANGE_ROWS, total)
            found = self._query(f"row >= {first} and row < {last}", ["row"], limit=RANGE_ROWS)
            missing = np.setdiff1d(np.arange(first, last), [int(line["row"]) for line in found])
            for start in range(0, len(missing), BATCH_ROWS):
                self._write(missing[start : start + BATCH_ROWS])
        if (there := self._count()) != total:
            what = f"the collection {self.name} holds {there:,} rows, the index {total:,}"
            raise self._error(what, "Somebody else writes to it; drop the collection: it is made and filled anew.")

    def _write(self, rows: Rows) -> None:
        address = self.index.pois["address"].take(rows).to_pylist()
        for row, text in zip(rows, address, strict=True):
            if len(text.encode()) > ADDRESS_BYTES:
                what = f"poi_id {self.index.poi(int(row))['poi_id']!r}: an address of more than {ADDRESS_BYTES:,} bytes"
                raise InputError(what, where=self.index.path, hint="Milvus takes no longer ones; search without it.")
        columns = rows.tolist(), self.index.vectors(rows), self.index.lng[rows], self.index.lat[rows], address
        batch = [
            {"row": row, "vector": vector, "lng": float(lng), "lat": float(lat), "address": text}
            for row, vector, lng, lat, text in zip(*columns, strict=True)
        ]
        self._client.upsert(self.name, batch, timeout=self.timeout_s)
        self._written = time.monotonic()

    def _drop_former(self) -> None:
        """Drop what this index was before it was made anew: collections that say that they are of the same folder."""
        from pymilvus.exceptions import MilvusException

        wait, own = {"timeout": self.timeout_s}, owner(self.index)
        for name in self._client.list_collections(**wait):
            if NAME.fullmatch(name) and name != self.name:
                with suppress(MilvusException):  # what may not go, or went just now, is no reason to fail
                    if self._client.describe_collection(name, **wait).get("properties", {}).get(OWNER) == own:
                        self._client.drop_collection(name, **wait)

    def _await_index(self) -> None:
        """Have the rows written down and indexed. Until then they are found, but slower, or by a coarser index."""
        wait = {"timeout": self.timeout_s}
        built = self._client.describe_index(self.name, "vector", **wait)
        if int(built.get("indexed_rows", 0)) < len(self.index):
            self._flush()
        before, end = -1, 0.0
        while True:
            built = self._client.describe_index(self.name, "vector", **wait)
            left = int(built.get("pending_index_rows", 0))
            if built.get("state") == "Failed":
                raise self._error(f"the index of {self.name} was not built", "See the server's log.")
            if left == 0 and built.get("state", "Finished") == "Finished":
                return
            if left != before:
                before, end = left, time.monotonic() + BUILD_S
            elif time.monotonic() > end:
                raise self._error(f"the index of {self.name} is not getting built", "See the server's log.")
            time.sleep(POLL_S)

    def _flush(self) -> None:
        from pymilvus.exceptions import MilvusException

        try:
            self._client.flush(self.name, timeout=self.timeout_s)
        except MilvusException:  # too slow, or too often: Milvus does it by itself in a while
            self._client.has_collection(self.name, timeout=self.timeout_s)  # is the server still there?

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever pymilvus and gRPC raise, as an InputError."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> InputError:
        text = _chain(error)
        if self.lite:
            hint = "Does another process use it, or did another milvus-lite make it? Else choose another path."
            return self._error(f"Milvus Lite cannot use this ({_first(error)})", hint)
        if "UNAUTHENTICATED" in text or "PERMISSION_DENIED" in text or "auth check failure" in text:
            given = "does not take the token" if os.environ.get(TOKEN) else "wants a token"
            return self._error(f"the Milvus server {given}", f"Set {TOKEN} to user:password or to an API key.")
        if any(sign in text for sign in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "Fail connecting", "Retry timeout")):
            hint = f"Does it run there? It had {self.timeout_s:g} s. What was written stays: a next start goes on."
            return self._error("no Milvus server answers", hint)
        return self._error(f"Milvus: {_first(error)}", "See the server's log; the index itself is whole.")

    def _error(self, what: str, hint: str) -> InputError:
        return InputError(what, where=shown(self.uri), hint=hint)


def is_file(uri: str) -> bool:
    """Whether a URI is a path for Milvus Lite. Raises InputError where it is neither that nor a server's."""
    if "://" not in uri and uri.endswith(".db"):
        return True
    try:
        parts = urlsplit(uri)
        if parts.scheme in ("http", "https", "tcp") and parts.hostname and parts.port != 0:
            return False
    except ValueError:  # no port, or no address
        pass
    hint = "Write a path that ends in .db (Milvus Lite), or http://host:19530 (a server or a cluster)."
    raise InputError(f"{shown(uri)!r} is no place for Milvus", hint=hint)


def shown(uri: str) -> str:
    """A URI without the user and password that may stand in it."""
    scheme, mark, rest = uri.partition("://")
    place, slash, path = rest.partition("/")
    return scheme + mark + place.rpartition("@")[2] + slash + path if mark else uri


def collection_name(index: Index) -> str:
    """A name that no other model, table or layout has: collections of others are never taken, nor touched."""
    made_of = [{k: v for k, v in index.manifest[name].items() if k != "files"} for name in ("model", "table")]
    parts = made_of[0], [made_of[1], len(index), index.dim, LAYOUT]
    digests = [hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16] for part in parts]
    return "_".join(["m3gal", *digests])


def owner(index: Index) -> str:
    """A digest of which folder, of which machine, a collection is made from; it keeps that as a property."""
    place = [socket.gethostname(), str(index.path.resolve())]
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()


def _client_class(lite: bool) -> type[MilvusClient]:
    try:
        from pymilvus import MilvusClient

        if lite:
            import milvus_lite  # noqa: F401
    except ImportError as error:
        raise InputError(f"Milvus needs a package that is not there ({error})", hint=f"{INSTALL} brings it.") from error
    for name in ("pymilvus", "milvus_lite"):  # they log what they raise, with tracebacks
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return MilvusClient


def _chain(error: BaseException | None) -> str:
    """The texts of an error and of its causes."""
    texts: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def _first(error: BaseException) -> str:
    text = str(getattr(error, "message", "")) or type(error).__name__
    return text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__
