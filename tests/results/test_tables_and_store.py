"""Means, intervals and differences against hand-made results; the result store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quality import table
from quality.curve import draw_curves, label_curves
from quality.evaluation_set import ScoreResult
from quality.interface import Result
from quality.m3gal_methods import NO_LOCATION
from quality.result_store import ResultStore, RunKey, newest_runs

from m3gal_cli.errors import InputError

KEY = RunKey("m", "0", 1, None, "aa")
RESULT = Result({"": ScoreResult([1, 2], [1, 1], [0, 3], 1.5, (0.1,)), "x": ScoreResult([2, 2])}, 3.0, 1.0)


def line(method: str, fold: str = "0", seed: int = 1, **more: Any) -> dict[str, Any]:
    """Return a stored line; ``ranks`` are given by query id, ``rerank`` in the same order."""
    ranks = more.pop("ranks", {0: 1, 1: 2, 2: 30})
    row = {"ranks": list(ranks.values())} | {name: more.pop(name) for name in ("rerank", "ms") if name in more}
    values = {"method": method, "fold": fold, "seed": seed, "labels": None, "hash": "h", "ids": list(ranks)}
    values |= {"minutes": 0.0, "before": 0.0, "about": {"train": 26}, "rows": {more.pop("kind", ""): row}}
    return values | more


def normal_interval(mean: float, count: int) -> tuple[float, float]:
    """Return the half widths of the normal 95% interval of a mean of ``count`` independent 0/1 values."""
    return (1.96 * np.sqrt(mean * (1 - mean) / count),) * 2


def test_metrics_equal_values_by_hand() -> None:
    [row] = table.collect_rows([line("m", ranks={7: 1, 8: 2, 9: 30}, rerank=[1, 1, 2])], dev=False)
    means = {name: (row.metric(name) or (0.0,))[0] for name in table.METRICS}
    assert means == pytest.approx({"R@1": 1 / 3, "R@5": 2 / 3, "R@20": 2 / 3, "MRR@5": 0.5, "rerank R@1": 2 / 3})


def test_the_value_of_a_query_is_its_mean_over_seeds() -> None:
    lines = [line("m", ranks={0: 1, 1: 9}), line("m", seed=2, ranks={0: 1, 1: 1}), line("m", fold="1", ranks={2: 6})]
    lines += [line("m", fold="dev", ranks={0: 50}), line("m", labels=50, ranks={0: 50})]
    [row] = table.collect_rows(lines, dev=False)
    assert row.values("R@1") == {0: 1.0, 1: 0.5, 2: 0.0}
    assert row.values("rerank R@1") == {}
    assert row.metric("rerank R@1") is None
    assert len(table.collect_rows(lines, dev=True)) == len(table.collect_rows(lines, dev=False, labels=50)) == 1


def test_differences_are_paired_by_query() -> None:
    one = {i: 1 + i % 3 for i in range(60)}
    two = {i: 1 if i % 6 == 1 else rank for i, rank in one.items() if i > 5}  # a sixth of the queries improves
    rows = table.collect_rows([line("one", ranks=one), line("two", ranks=two)], dev=False)
    mean, low, high = table.paired_difference(rows[1], rows[0], "R@1") or (0, 0, 0)
    assert mean == pytest.approx(9 / 54)
    assert (mean - low, high - mean) == pytest.approx(normal_interval(mean, 54), rel=0.2)
    assert table.paired_difference(rows[0], rows[0], "R@5") == (0, 0, 0)
    text = table.markdown_differences(rows, "one").splitlines()
    assert text[2].startswith("| two | +.167 (")


def test_the_markdown_table_equals_one_written_by_hand() -> None:
    lines = [line("a", ranks={0: 1, 1: 1}, rerank=[1, 1], ms=2.0), line("a", "1", ranks={2: 1}, rerank=[1], ms=3.0)]
    lines += [line("b", seed=s, minutes=4.0, before=30.0, kind="text") for s in (1, 2)] + [line("b", "1", kind="text")]
    head, _, first, second = table.markdown_table(table.collect_rows(lines, dev=False)).splitlines()
    assert head == "| method | R@1 | R@5 | R@20 | MRR@5 | rerank R@1 | minutes | ms | runs |"
    assert first == "| a |" + " 1.000 (1.000 to 1.000) |" * 5 + "  | 2.5 | 2 × 1 |"
    assert second.startswith("| b: text | .333 (.000 to 1.000) |")
    assert second.endswith("|  | 2.7 + 20 |  | 2 × 2 (3 done) |")
    numbers = {0.5: ".500", 1.0: "1.000", -0.25: "-.250", 0.0: ".000", -1e-9: ".000", 10.0: "10.000"}
    assert {number: table.format_number(number) for number in numbers} == numbers
    assert table.format_interval((0.1, -0.1, 0.3), signed=True) == "+.100 (-.100 to .300)"


def test_rows_without_locations_are_omitted_if_they_change_nothing() -> None:
    with_location = line("m", kind="text")
    with_location["rows"] |= {f"text, {NO_LOCATION}": {"ranks": [1, 2, 30]}, "reranked": {"ranks": [1, 1, 1]}}
    with_location["rows"][f"reranked, {NO_LOCATION}"] = {"ranks": [1, 1, 2]}
    names = [row.name for row in table.collect_rows([with_location], dev=False)]
    assert names == ["m: text", "m: reranked", f"m: reranked, {NO_LOCATION}"]


def test_the_label_curve_has_one_point_per_number_of_labels(tmp_path: Path) -> None:
    lines = [line("m", kind="text", labels=n, ranks={0: 1, 1: 1 if n is None else 9}) for n in (None, 0, 50)]
    lines += [line("m", kind="location", labels=n) for n in (None, 0)] + [line("alone", kind="text")]
    [curve] = label_curves(lines)
    assert (curve.method, curve.kind) == ("m", "text")
    assert [(n, values["R@1"][0]) for n, values in curve.points] == [(0, 0.5), (26, 1.0), (50, 0.5)]  # 26: all
    draw_curves([curve], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_a_stored_result_is_read_back(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "kept" / "results.jsonl")
    assert store.lines() == []
    store.add(KEY, [4, 5], RESULT, {"train": 9})
    [stored] = store.lines()
    assert stored["ids"] == [4, 5]
    assert stored["rows"] == {
        "": {"ranks": [1, 2], "rerank": [1, 1], "found": [0, 3], "ms": 1.5, "weights": [0.1]},
        "x": {"ranks": [2, 2]},
    }
    assert (stored["minutes"], stored["before"], stored["about"]) == (3.0, 1.0, {"train": 9})
    assert store.keys() == {KEY}


def test_a_truncated_line_is_ignored(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.jsonl")
    store.add(KEY, [4], RESULT, {})
    with store.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"method": "half"})[:-4])
    assert store.keys() == {KEY}
    other = RunKey("m", "1", 1, None, "aa")
    store.add(other, [5], RESULT, {})
    assert store.keys() == {KEY, other}


def test_the_newest_settings_of_a_method_are_kept() -> None:
    lines = [line("m"), line("n"), line("m", hash="new"), line("m", fold="1", hash="new"), line("n", ranks={0: 4})]
    kept, old = newest_runs(lines)
    assert old == 2
    found = [(x["method"], x["fold"], x["hash"], x["ids"][0]) for x in kept]
    assert found == [("n", "0", "h", 0), ("m", "0", "new", 0), ("m", "1", "new", 0)]


def test_a_table_replaces_the_text_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- end of x -->\nb\n", encoding="utf-8")
    for text in ("new", "newer"):
        table.write_between_marks(page, "x", text)
        assert page.read_text(encoding="utf-8") == f"a\n<!-- x -->\n\n{text}\n\n<!-- end of x -->\nb\n"
    with pytest.raises(InputError, match="no marks <!-- y -->"):
        table.write_between_marks(page, "y", "new")
