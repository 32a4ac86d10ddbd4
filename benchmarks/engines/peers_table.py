"""The tables of ``peers.py``: recall by set, recall of changed names, time and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from quality.sets import ADDRESS_PAIRS, GEOTES, HELSINKI_VIEWS, NAME_PAIRS, PERTURBED_NAMES
from quality.table import format_number, header

Line = Mapping[str, Any]
NAME_SETS = [f"helsinki {kind}" for kind in PERTURBED_NAMES]
TIMED = (HELSINKI_VIEWS, GEOTES)
FAILED = "**NOT MEASURED**"


def markdown_tables(lines: Iterable[Line], engines: Sequence[str]) -> str:
    """Return the tables of the newest measurement of each engine and set; engines that failed stand out.

    Args:
        lines: Stored measurements, oldest first.
        engines: Names of the engines, in the order of the rows.
    """
    by_engine: dict[str, dict[str, Line]] = {}
    for line in lines:
        by_engine.setdefault(line["engine"], {})[line["set"]] = line
    rows = {name: by_engine[name] for name in engines if name in by_engine}
    recall = [*(_column(name, 1, 5, 20) for name in (GEOTES, *NAME_PAIRS, HELSINKI_VIEWS)), _mrr(ADDRESS_PAIRS)]
    parts = [
        _table(
            "R@1 / R@5 / R@20; address_pairs: MRR", [GEOTES, *NAME_PAIRS, HELSINKI_VIEWS, ADDRESS_PAIRS], recall, rows
        )
    ]
    parts += [_table("R@1 / R@5", NAME_SETS, [_column(name, 1, 5) for name in NAME_SETS], rows)]
    times = [cell for name in TIMED for cell in (_value(name, "ms", 1), _value(name, "memory_mb", 0))]
    names = [head for name in TIMED for head in (f"{name}, ms", f"{name}, MB")]
    parts += [_table("engine", [*names, "version", "settings"], [*times, _about("version"), _about("settings")], rows)]
    return "\n\n".join(parts)


Cell = Callable[[Mapping[str, Line]], str]


def _table(corner: str, names: Sequence[str], cells: Sequence[Cell], rows: Mapping[str, Mapping[str, Line]]) -> str:
    lines = header([corner, *names])
    lines += [f"| {' | '.join([name, *(cell(own) for cell in cells)])} |" for name, own in rows.items()]
    return "\n".join(lines)


def _of_set(name: str, text: Callable[[Line], str]) -> Cell:
    def cell(own: Mapping[str, Line]) -> str:
        if name not in own:
            return ""
        return FAILED if "error" in own[name] else text(own[name])

    return cell


def _column(name: str, *cutoffs: int) -> Cell:
    return _of_set(name, lambda line: " / ".join(format_number(line[f"recall@{k}"]) for k in cutoffs))


def _mrr(name: str) -> Cell:
    return _of_set(name, lambda line: format_number(line["mrr@5"]))


def _value(name: str, key: str, decimals: int) -> Cell:
    return _of_set(name, lambda line: f"{line[key]:.{decimals}f}")


def _about(key: str) -> Cell:
    return lambda own: next((str(line[key]) for line in own.values() if key in line), "")
