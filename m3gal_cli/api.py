"""The Python API: ``Matcher.load`` opens a run, ``Matcher.match`` answers queries."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from m3gal_cli.data.queries import Query
from m3gal_cli.errors import InputError
from m3gal_cli.geo.filters import Box, check_box, swapped_box_warning
from m3gal_cli.matching import matcher as matching
from m3gal_cli.matching.matcher import MATCH_KEYS, Answer
from m3gal_cli.matching.session import Log, no_log, open_session

if TYPE_CHECKING:  # pandas takes half a second
    import pandas as pd

POIS_FILE = "pois.parquet"
SETTINGS = {"device": "device"} | {name: f"data.{name}" for name in ("columns", "datum", "skip_bad")}
POI_COLUMNS = ("poi_id", "address", "lng", "lat")


class Answers(list[Answer]):
    """The answers of ``Matcher.match``: a list of dictionaries, one per query."""

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per match, and no row for a query without matches.

        The columns are query_id and those of a match; distance_m only if a query has a location.
        """
        import pandas as pd

        rows = [
            {"query_id": answer["id"], "query": answer["query"], **match}
            for answer in self
            for match in answer["matches"]
        ]
        empty = ("query_id", "query", *MATCH_KEYS[:-1])
        found = dict.fromkeys(key for row in rows for key in row) or dict.fromkeys(empty)
        last = [name for name in found if name == MATCH_KEYS[-1]]  # only some queries have a location
        return pd.DataFrame(rows, columns=[name for name in found if name not in last] + last)


class Matcher:
    """A model and an index of POIs that answer queries.

    >>> from m3gal_cli import Matcher
    >>> matcher = Matcher.load("runs/only")
    >>> matcher
    <Matcher: 32 POIs, model runs/only/best, exact search>
    >>> answers = matcher.match("north street cafe", k=3, lng=24.9, lat=60.1, within_km=50)
    >>> answers[0]["query"], [match["rank"] for match in answers[0]["matches"]]
    ('north street cafe', [1, 2, 3])
    >>> answers.to_frame().columns.tolist()
    ['query_id', 'query', 'rank', 'poi_id', 'address', 'lng', 'lat', 'score', 'distance_m']
    """

    def __init__(
        self, matcher: matching.Matcher, model: str = "", temporary: TemporaryDirectory[str] | None = None
    ) -> None:
        self._matcher, self._model = matcher, model
        self._temporary = temporary  # deleted with this object

    @classmethod
    def load(
        cls,
        run: str | PathLike[str] | None = None,
        pois: str | PathLike[str] | pd.DataFrame | None = None,
        *,
        log: Log = no_log,
        **settings: Any,
    ) -> Matcher:
        """Open a run and the index of its POI table; build the index, or bring it up to date, if necessary.

        Args:
            run: Run, checkpoint directory or published file; ``"packaged"``: the packaged model; None: the model of the
                index in ``index_dir``, else the newest run in ``runs``, else the packaged model.
            pois: POI table that replaces the table of the run: a file, or a DataFrame with address, lng, lat and
                optionally poi_id and further columns. The index of a DataFrame is temporary, unless ``index_dir`` is
                given. An index in ``index_dir`` is brought up to date with this table; without ``pois`` it does not
                change.
            log: Called with a message for each file that is used or built.
            settings: ``device``; ``columns``, ``datum`` and ``skip_bad``, by which ``pois`` is read; and settings of
                ``eval``, such as ``index="ann"``, ``recall=0.99``, ``index_dir=…``.

        Raises:
            InputError: No such run, no POI table, an unknown setting, or a full disk.
        """
        given = {SETTINGS.get(name, f"eval.{name}"): value for name, value in settings.items()}
        given |= {name: fspath(value) for name, value in given.items() if isinstance(value, PathLike)}
        temporary = None
        if isinstance(pois, str | PathLike):
            given["data.poi"] = str(pois)
        elif pois is not None:
            temporary = TemporaryDirectory(prefix="m3gal-")
            given["data.poi"] = str(_store(pois, Path(temporary.name)))
            given.setdefault("eval.index_dir", str(Path(temporary.name) / "index"))
        try:
            session = open_session(None if run is None else Path(run), given, log=log)
            index = session.index(_no_progress)
        except InputError as error:
            if temporary is None or error.where is None:
                raise
            where = error.where.replace(str(Path(temporary.name) / POIS_FILE), "pois")
            raise InputError(error.what, where=where, hint=error.hint) from error
        assert index is not None, "a single process gets the index"
        return cls(session.matcher(index, _no_progress), str(session.checkpoint), temporary)

    def __len__(self) -> int:
        """Return the number of POIs."""
        return len(self._matcher.index)

    def __repr__(self) -> str:
        searcher: Any = self._matcher.searcher
        first = (getattr(searcher, "searchers", None) or [searcher])[0]  # of several segments, the oldest
        search = type(first).__name__.removesuffix("Searcher").lower()
        search = "exact" if search == "numpy" else search
        return f"<Matcher: {len(self):,} POIs, model {self._model}, {search} search>"

    def match(
        self,
        queries: str | Iterable[str],
        k: int = 5,
        lng: float | None = None,
        lat: float | None = None,
        within_km: float | None = None,
        bbox: Box | None = None,
        columns: Sequence[str] = (),
        min_score: float | None = None,
    ) -> Answers:
        """Return the best ``k`` POIs of each query, in the order of the queries.

        Args:
            queries: Query texts; a single text is a list of one.
            k: Number of matches per query; fewer if the table or the filters leave fewer.
            lng: Longitude of the query location, degrees, WGS-84. Matches then have ``distance_m``.
            lat: Latitude of the query location.
            within_km: Keep only POIs within this distance of the query location.
            bbox: Keep only POIs in this box: west, south, east, north, degrees.
            columns: Further columns of the POI table that the matches carry, or ``["all"]``.
            min_score: Leave out matches with a lower score.

        Returns:
            A dictionary for each query with its number from 1 (``id``), its text (``query``) and its ``matches``, best
            first, each with the fields of ``m3gal_cli.matching.matcher.Match``.

        Raises:
            InputError: An argument has the wrong type or an invalid value.
        """
        texts = _texts(queries)
        k = _integer("k", k)
        if k < 1:
            raise InputError(f"k is {k}", hint="Give 1 or more.")
        lng, lat, within_km = _number("lng", lng), _number("lat", lat), _number("within_km", within_km)
        min_score = _number("min_score", min_score)
        if (lng is None) != (lat is None):
            given, missing = ("lng", "lat") if lat is None else ("lat", "lng")
            raise InputError(f"{given} is given without {missing}", hint="Give both, in degrees.")
        if lng is not None and lat is not None and not (abs(lng) <= 180 and abs(lat) <= 90):
            raise InputError(f"(lng, lat) = ({lng}, {lat}) is not on the Earth", hint="Give degrees, lng first.")
        if within_km is not None and lng is None:
            raise InputError("within_km is given without lng and lat", hint="Give the query location.")
        if within_km is not None and not 0 < within_km < math.inf:
            raise InputError(f"within_km is {within_km}", hint="Give kilometres, more than 0.")
        box = None if bbox is None else self._box(bbox)
        further = self._matcher.check_columns([columns] if isinstance(columns, str) else columns, "columns")
        located = [Query(number, text, lng, lat) for number, text in enumerate(texts, 1)]
        return Answers(self._matcher.answer(located, k, within_km, box, further, min_score) if located else [])

    def _box(self, bbox: Any) -> Box:
        """Check a box; warn if its axes look swapped."""
        try:
            west, south, east, north = (float(value) for value in bbox)
        except (TypeError, ValueError):
            raise InputError(f"bbox is {bbox!r}", hint="Give west, south, east, north in degrees.") from None
        box = check_box((west, south, east, north))
        if warning := swapped_box_warning(box, self._matcher.index.lng, self._matcher.index.lat, "bbox"):
            warnings.warn(warning, stacklevel=3)
        return box


def _texts(queries: Any) -> list[str]:
    """Return the query texts as a list. Raises InputError."""
    if not isinstance(queries, Iterable):
        raise InputError(f"queries is {queries!r}", hint="Give a text or a list of texts.")
    texts = [queries] if isinstance(queries, str) else list(queries)
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"query {number} is {text!r}", hint="Give texts that are not empty.")
    return texts


def _integer(name: str, value: Any) -> int:
    """Return an integer of any type, also of numpy. Raises InputError."""
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}", hint="Give a whole number.") from None


def _number(name: str, value: Any) -> float | None:
    """Return a number as a float, None as None. Raises InputError."""
    if value is None:
        return None
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}", hint="Give a number.") from None


def _store(pois: Any, folder: Path) -> Path:
    """Write a DataFrame to a file. Further columns with values of several types become text. Raises InputError."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not isinstance(pois, pd.DataFrame):
        raise InputError(f"pois is {type(pois).__name__}", hint="Give the path of a POI table, or a DataFrame.")
    path, columns = folder / POIS_FILE, {}
    for name in pois.columns:
        try:
            columns[str(name)] = pa.Array.from_pandas(pois[name])
        except (pa.ArrowException, ValueError, TypeError) as error:
            if name in POI_COLUMNS:
                hint = "Give each column values of one type."
                raise InputError(f"pois cannot be stored ({name}: {error})", hint=hint) from error
            columns[str(name)] = pa.array([None if value is None else str(value) for value in pois[name]])
    pq.write_table(pa.table(columns), path)
    return path


def _no_progress(done: int, total: int) -> None:
    """Ignore the progress."""
