"""Means, intervals and differences against results made by hand; what is kept, and what is read of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quality.board import Row
from quality.curve import curves_of, draw
from quality.job import Result
from quality.ours import PLACELESS
from quality.store import Key, Store, newest
from quality.table import METRICS, cell, difference, differences, gathered, markdown, shown

from m3gal_cli.errors import InputError


def line(method: str, fold: str = "0", seed: int = 1, **more: Any) -> dict[str, Any]:
    """A stored line; ``ranks`` by query id, ``rerank`` in the same order."""
    ranks = more.pop("ranks", {0: 1, 1: 2, 2: 30})
    row = {"ranks": list(ranks.values())} | ({"rerank": more.pop("rerank")} if "rerank" in more else {})
    row |= {"ms": more.pop("ms")} if "ms" in more else {}
    out = {"method": method, "fold": fold, "seed": seed, "labels": None, "hash": "h", "ids": list(ranks)}
    out |= {"minutes": 0.0, "before": 0.0, "about": {"train": 26}, "rows": {more.pop("kind", ""): row}}
    return out | more


def test_metrics_by_hand() -> None:
    [row] = gathered([line("m", ranks={7: 1, 8: 2, 9: 30}, rerank=[1, 1, 2])], dev=False)
    means = {name: (row.metric(name) or (0.0,))[0] for name in METRICS}
    assert means == pytest.approx({"R@1": 1 / 3, "R@5": 2 / 3, "R@20": 2 / 3, "MRR@5": 0.5, "rerank R@1": 2 / 3})


def test_a_querys_value_is_its_mean_over_seeds_and_folds_come_together() -> None:
    lines = [line("m", ranks={0: 1, 1: 9}), line("m", seed=2, ranks={0: 1, 1: 1}), line("m", fold="1", ranks={2: 6})]
    lines += [line("m", fold="dev", ranks={0: 50}), line("m", labels=50, ranks={0: 50})]
    [row] = gathered(lines, dev=False)
    assert row.values("R@1") == {0: 1.0, 1: 0.5, 2: 0.0}
    assert row.values("rerank R@1") == {}
    assert row.metric("rerank R@1") is None
    assert len(gathered(lines, dev=True)) == len(gathered(lines, dev=False, labels=50)) == 1


def test_the_interval_is_the_spread_of_means_of_resamples() -> None:
    draw_ = np.random.default_rng(0)
    ranks = {i: int(rank) for i, rank in enumerate(draw_.integers(1, 4, 200))}
    [row] = gathered([line("m", ranks=ranks)], dev=False)
    mean, low, high = row.metric("R@1") or (0, 0, 0)
    assert mean == pytest.approx(np.mean([r == 1 for r in ranks.values()]))
    error = np.sqrt(mean * (1 - mean) / 200)  # of a mean of 200 independent queries
    assert (mean - low, high - mean) == pytest.approx((1.96 * error, 1.96 * error), rel=0.15)


def test_differences_are_taken_query_by_query() -> None:
    one = {i: 1 + i % 3 for i in range(60)}
    two = {i: 1 if i % 6 == 1 else rank for i, rank in one.items() if i > 5}  # another tenth of the queries is right
    rows = gathered([line("one", ranks=one), line("two", ranks=two)], dev=False)
    mean, low, high = difference(rows[1], rows[0], "R@1") or (0, 0, 0)
    assert mean == pytest.approx(9 / 54)
    error = np.sqrt(mean * (1 - mean) / 54)
    assert (mean - low, high - mean) == pytest.approx((1.96 * error, 1.96 * error), rel=0.2)
    assert difference(rows[0], rows[0], "R@5") == (0, 0, 0)
    text = differences(rows, "one").splitlines()
    assert len(text) == 3
    assert text[2].startswith("| two | +.167 (")
    assert text[2].endswith("| 54 |")


def test_the_table_in_words() -> None:
    lines = [line("a", ranks={0: 1, 1: 1}, rerank=[1, 1], ms=2.0), line("a", "1", ranks={2: 1}, rerank=[1], ms=3.0)]
    lines += [line("b", seed=s, minutes=4.0, before=30.0, kind="text") for s in (1, 2)] + [line("b", "1", kind="text")]
    head, _, first, second = markdown(gathered(lines, dev=False)).splitlines()
    assert head == "| method | R@1 | R@5 | R@20 | MRR@5 | rerank R@1 | minutes | ms | runs |"
    assert first == "| a |" + " 1.000 (1.000 to 1.000) |" * 5 + "  | 2.5 | 2 × 1 |"
    assert second.startswith("| b: text | .333 (.000 to 1.000) |")
    assert second.endswith("|  | 2.7 + 20 |  | 2 × 2 (3 done) |")
    assert [shown(x) for x in (0.5, 1.0, -0.25, 0.0, -1e-9, 10.0)] == [
        ".500",
        "1.000",
        "-.250",
        ".000",
        ".000",
        "10.000",
    ]
    assert cell((0.1, -0.1, 0.3), signed=True) == "+.100 (-.100 to .300)"


def test_a_row_without_places_is_left_out_where_they_change_nothing() -> None:
    with_place = line("m", kind="text")
    with_place["rows"] |= {f"text, {PLACELESS}": {"ranks": [1, 2, 30]}, "reranked": {"ranks": [1, 1, 1]}}
    with_place["rows"][f"hybrid, {PLACELESS}"] = {"ranks": [1, 1, 2]}
    names = [row.name for row in gathered([with_place], dev=False)]
    assert names == ["m: text", "m: hybrid", f"m: hybrid, {PLACELESS}"]


def test_the_curve_has_a_point_for_every_number_of_labels(tmp_path: Path) -> None:
    lines = [line("m", kind="text", labels=n, ranks={0: 1, 1: 1 if n is None else 9}) for n in (None, 0, 50)]
    lines += [line("m", kind="location", labels=n) for n in (None, 0)] + [line("alone", kind="text")]
    [curve] = curves_of(lines)
    assert (curve.method, curve.kind) == ("m", "text")
    assert [(n, values["R@1"][0]) for n, values in curve.points] == [(0, 0.5), (26, 1.0), (50, 0.5)]  # 26: all
    draw([curve], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(InputError, match="more than one number of labels"):
        draw([], tmp_path / "none.png")


KEY = Key("m", "0", 1, None, "aa")
RESULT = Result({"": Row([1, 2], [1, 1], [0, 3], 1.5, (0.1,)), "x": Row([2, 2])}, 3.0, 1.0)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "kept" / "results.jsonl")
    assert store.lines() == []
    store.add(KEY, [4, 5], RESULT, {"train": 9})
    [found] = store.lines()
    assert found["ids"] == [4, 5]
    assert found["rows"] == {
        "": {"ranks": [1, 2], "rerank": [1, 1], "found": [0, 3], "ms": 1.5, "weights": [0.1]},
        "x": {"ranks": [2, 2]},
    }
    assert (found["minutes"], found["before"], found["about"]) == (3.0, 1.0, {"train": 9})
    assert store.done() == {KEY}


def test_a_line_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.jsonl")
    store.add(KEY, [4], RESULT, {})
    with store.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"method": "half"})[:-4])
    assert store.done() == {KEY}
    other = Key("m", "1", 1, None, "aa")
    store.add(other, [5], RESULT, {})
    assert store.done() == {KEY, other}


def test_the_newest_settings_of_a_method_count() -> None:
    lines = [line("m"), line("n"), line("m", hash="new"), line("m", fold="1", hash="new"), line("n", ranks={0: 4})]
    kept, old = newest(lines)
    assert old == 2
    runs = [(x["method"], x["fold"], x["hash"]) for x in kept]
    assert runs == [("n", "0", "h"), ("m", "0", "new"), ("m", "1", "new")]
    assert kept[0]["ids"] == [0]
