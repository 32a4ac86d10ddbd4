"""report.html and progress.png: their numbers are metrics.jsonl's, words are no markup, a failure stops no run."""

from __future__ import annotations

import json
import re
import struct
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from m3gal_cli.errors import InputError
from m3gal_cli.training import report
from m3gal_cli.training.report import __main__ as again
from m3gal_cli.training.report import write_report
from m3gal_cli.training.report.charts import MOST_POINTS, charts_of, pieces, thinned
from m3gal_cli.training.report.page import page, took
from m3gal_cli.training.report.run_log import read_run_log
from m3gal_cli.training.report.svg import Axis
from tests.helpers.cli import m3gal, steps, validations
from tests.helpers.sample_town import STEPS, write_town

VOID = {"meta", "br"}


class Page(HTMLParser):
    """A page as the tests read it; every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.values: dict[str, list[float]] = {}
        self.paths: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.table = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        assert not {"src", "href", "onload", "onclick", "style"} & set(own)
        self.tags.append(tag)
        self.ids += [own["id"] or ""] if "id" in own else []
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.table = own["id"] or ""
            self.tables[self.table], self.values[self.table] = [], []
        elif tag == "tr":
            self.tables[self.table].append([])
        elif tag in ("td", "th"):
            self.tables[self.table][-1].append("")
        elif tag == "data" and self.table and "table" in self.open:
            self.values[self.table].append(float(own["value"] or "nan"))
        elif tag == "path" and (own.get("class") or "").startswith("line"):
            self.paths.append(own["d"] or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[self.table][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def pixels(path: Path) -> NDArray[np.uint8]:
    """The pixels of an 8-bit PNG, its checksums and size checked. Shape: -> (H, W, channels)."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts, names = 8, b"", []
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size]) == (zlib.crc32(name + body),)
        names.append(name)
        if name == b"IHDR":
            wide, high, depth, kind = struct.unpack(">IIBB", body[:10])
            assert depth == 8
        parts += body if name == b"IDAT" else b""
        at += 12 + size
    assert names[-1] == b"IEND"
    channels = {2: 3, 6: 4}[kind]
    rows = np.frombuffer(zlib.decompress(parts), np.uint8).reshape(high, 1 + wide * channels)
    return rows[:, 1:].reshape(high, wide, channels)  # filtered rows, which is enough to see that they differ


def write_run(folder: Path, rows: list[Any], config: str = "seed: 1\n", starts: Any = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    if starts is not None:
        (folder / "environment.json").write_text(json.dumps({"starts": starts}), encoding="utf-8")
    return folder


def step(number: int, **more: Any) -> dict[str, Any]:
    row = {"kind": "step", "step": number, "epoch": 0, "text_loss": 9.0 / number, "location_loss": 8.0}
    return row | {"fused_loss": 17.0 / number, "lr": 1e-3, "location_lr": 2e-3, "samples_per_second": 100.0} | more


def validation(number: int, value: float) -> dict[str, Any]:
    metrics = {k: {"recall@1": value, "recall@5": 0.5, "mrr@5": 0.25} for k in ("text", "location", "fused")}
    return {"kind": "validation", "step": number, "epoch": 0, "n_queries": 12, "seconds": 1.5, "metrics": metrics}


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("report"))


def given(profile: Path, name: str, *more: object) -> tuple[object, ...]:
    return ("--config", profile, "--runs-dir", profile.parent / "runs", "--output-name", name, *more)


@pytest.fixture(scope="module")
def run(profile: Path) -> Path:
    return m3gal("pretrain", *given(profile, "whole")).run


def test_the_report_of_a_run(run: Path) -> None:
    seen = Page((run / "report.html").read_text(encoding="utf-8"))
    found = validations(run)
    recalls = [row["metrics"]["fused"]["recall@1"] for row in found]
    best = found[recalls.index(max(recalls))]
    names = ("recall@1", "recall@3", "recall@5", "mrr@5", "ndcg@5", "median_error_m", "within_100m", "within_1km")
    kinds = ("text", "location", "fused")
    assert seen.values["best"] == [best["metrics"][k][n] for k in kinds for n in names]
    last = seen.values.get("last", seen.values["best"])
    assert last == [found[-1]["metrics"][k][n] for k in kinds for n in names]
    shown = [row["metrics"][k][n] for row in found for k in kinds for n in ("recall@1", "recall@5", "mrr@5")]
    assert seen.values["all"] == shown
    assert [row[0].split()[0] for row in seen.tables["all"][2:]] == [str(row["step"]) for row in found]
    for part in ("stage pretrain", "rows 64", f"steps {3 * STEPS} of {3 * STEPS}", f"epochs 3 (of {STEPS} steps)"):
        assert part in seen.text
    assert "warnings 0" in seen.text
    assert (run / "config.yaml").read_text(encoding="utf-8").strip() in "".join(seen.words)
    assert {"script", "img", "link", "iframe"} & set(seen.tags) == set()
    assert len(seen.ids) == len(set(seen.ids))


def test_the_environment(run: Path) -> None:
    import torch

    (start,) = json.loads((run / "environment.json").read_text(encoding="utf-8"))["starts"]
    assert start["torch"] == torch.__version__
    assert (start["rows"], start["steps"], start["steps_per_epoch"]) == (64, 3 * STEPS, STEPS)
    assert (start["first_step"], start["last_step"], start["processes"], start["device"]) == (0, 3 * STEPS, 1, "cpu")
    assert start["python"] == ".".join(map(str, sys.version_info[:3]))
    assert start["threads"] == torch.get_num_threads()
    assert start["seconds"] > 0
    text = Page((run / "report.html").read_text(encoding="utf-8")).text
    assert f"torch {torch.__version__}" in text
    assert start["cpu"] in text


def test_the_curves_are_the_logged_ones(run: Path) -> None:
    charts = {chart.title: chart for chart in charts_of(read_run_log(run))}
    loss = {s.name: s.points for s in charts["Loss"].series}
    for name in ("text", "location", "fused"):
        assert loss[name] == [(row["step"], row[f"{name}_loss"]) for row in steps(run)]
        recall = {s.name: s.points for s in charts["Validation, recall@1"].series}[name]
        assert recall == [(row["step"], row["metrics"][name]["recall@1"]) for row in validations(run)]
    assert "Tokens a second" not in charts or "tokens_per_second" in steps(run)[0]


def test_the_picture(run: Path) -> None:
    picture = pixels(run / "progress.png")
    assert picture.shape[0] > 600
    assert picture.shape[1] == 1380
    assert (picture[..., :3] != 0).any(axis=2).mean() > 0.01
    (run / "progress.png").unlink()
    assert again.main([str(run)]) == 0
    assert pixels(run / "progress.png").shape == picture.shape


def test_a_resumed_run_tells_both_starts(profile: Path) -> None:
    first = m3gal("pretrain", *given(profile, "parts", "--max-steps", 3)).run
    m3gal("pretrain", *given(profile, "parts", "--max-steps", 6, "--resume", "auto"))
    starts = json.loads((first / "environment.json").read_text(encoding="utf-8"))["starts"]
    assert [(s["first_step"], s["last_step"]) for s in starts] == [(0, 3), (3, 6)]
    text = Page((first / "report.html").read_text(encoding="utf-8")).text
    assert "resumed at step 3" in text
    assert "steps 6 of 6" in text


@pytest.mark.parametrize("fails", ["write_page", "write_picture", "write_starts", "read_story"])
def test_a_report_that_fails_is_one_warning(profile: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, fails, fail)
    monkeypatch.setattr(report, "PICTURE_SECONDS", 0.0)
    answer = m3gal("pretrain", *given(profile, f"full-{fails}"))
    assert answer.run.is_dir()
    assert answer.err.count("warning:") == 1
    assert "No space left on device" in answer.err
    assert len(validations(answer.run)) == 3
    assert not list(answer.run.glob(".*.tmp"))


def test_a_training_that_fails_leaves_its_curves(profile: Path) -> None:
    answer = m3gal("pretrain", *given(profile, "diverged", "--lr", 1e30, "--set", "optim.name=sgd"))
    assert answer.code == 2
    run = profile.parent / "runs" / "diverged"
    Page((run / "report.html").read_text(encoding="utf-8"))
    assert pixels(run / "progress.png").size


EVIL = "<script>alert(1)</script>\"'&amp;\ud800"


def test_words_of_others_stay_words(tmp_path: Path) -> None:
    rows = [step(1), {"kind": "warning", "step": 1, "text": EVIL}, validation(1, 0.5)]
    rows[2]["metrics"]["<img onerror=x>"] = {"recall@1": 0.1}
    starts = [{"<b>": EVIL, "cpu": "<i>x</i>", "seconds": "<u>", "steps": "<s>", "first_step": None}] * 2
    run = write_run(tmp_path / "<script>alert(2)<b> $x^$", rows, "run: {name: </pre><script>}\n", starts)
    write_report(run)
    seen = Page((run / "report.html").read_text(encoding="utf-8"))
    known = {"script", "img", "i", "u", "s"}
    assert known & set(seen.tags) == set()
    assert "<script>alert(1)</script>\"'&amp;?" in seen.text
    assert "<script>alert(2)<b> $x^$" in seen.text
    assert "run: {name: </pre><script>}" in seen.text
    assert pixels(run / "progress.png").size


def test_broken_lines_and_gaps(tmp_path: Path) -> None:
    """What cannot be read is counted and left out; a value that is missing cuts the curve."""
    rows: list[Any] = [step(i) for i in range(1, 8)]
    rows[2].pop("text_loss")
    rows[3]["fused_loss"] = float("nan")
    rows[4] |= {"location_loss": "high", "lr": True}
    rows += ['{"kind": "step", "st', "[1]", '{"kind": "step"}', '{"kind": "validation", "step": 3}', "\x00", ""]
    rows += [validation(7, 0.5) | {"metrics": {"fused": {"recall@1": None}, "text": 3}}]
    run = write_run(tmp_path / "run", rows, starts="nonsense")
    run_log = read_run_log(run)
    assert (len(run_log.steps), len(run_log.validations), run_log.broken, run_log.best) == (7, 1, 5, None)
    curves = {s.name: pieces(s.points) for s in charts_of(run_log)[0].series}
    assert [[x for x, _ in piece] for piece in curves["text"]] == [[1, 2], [4, 5, 6, 7]]
    assert [[x for x, _ in piece] for piece in curves["fused"]] == [[1, 2, 3], [5, 6, 7]]
    assert [[x for x, _ in piece] for piece in curves["location"]] == [[1, 2, 3, 4], [6, 7]]
    write_report(run)
    assert "5 of metrics.jsonl" in Page((run / "report.html").read_text(encoding="utf-8")).text


@pytest.mark.parametrize("count", [0, 1, 3, 1000, 5001])
def test_runs_of_every_length(tmp_path: Path, count: int) -> None:
    rows: list[Any] = [step(i) for i in range(1, count + 1)]
    rows += [validation(i, i / 10_000) for i in range(1000, count + 1, 1000)]
    run_log = read_run_log(write_run(tmp_path / "run", rows))
    seen = Page(page(run_log))
    assert len(seen.paths) >= (6 if count > 1 else 0)
    assert all(re.fullmatch(r"M[\d.]+ [\d.]+(L[\d.]+ [\d.]+)+", path) or path == "M0 5H30" for path in seen.paths)
    longest = max((path.count("L") + 1 for path in seen.paths), default=0)
    assert longest <= MOST_POINTS
    if count == 5001:
        assert "each point is the mean of 6 logged lines" in seen.text
    assert ("Nothing is logged yet." in seen.text) == (count == 0)


def test_a_mean_of_lines() -> None:
    assert thinned([(1, 2.0), (2, 4.0), (3, None), (4, 5.0), (5, None), (6, None), (7, 1.0)], 2) == [
        (1.5, 3.0),
        (4, 5.0),
        (5, None),
        (7, 1.0),
    ]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0.0, 1.0), ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        ((0.001, 0.0005), ["0.0006", "0.0008", "0.0010"]),
        ((45000.0, 46000.0), ["45,000", "45,250", "45,500", "45,750", "46,000"]),
        ((0.0,), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_ticks(values: tuple[float, ...], labels: list[str]) -> None:
    axis = Axis(values, 0, 100)
    assert [axis.label(tick) for tick in axis.ticks] == labels
    assert all(0 <= axis(v) <= 100 for v in (*values, *axis.ticks))


@pytest.mark.parametrize("values", [(5.0,), (-3.0, -3.0), (1e-9, 2e-9), (1e12, 2e12), (-4.0, 1.0), (0.1, 0.1 + 1e-15)])
def test_every_axis_has_ticks_that_differ(values: tuple[float, ...]) -> None:
    axis = Axis(values, 0, 100)
    labels = [axis.label(tick) for tick in axis.ticks]
    assert 2 <= len(labels) == len(set(labels)) <= 12


def test_times_in_words() -> None:
    assert [took(s) for s in (1.23, 245, 12_000)] == ["1.2 s", "4 min 05 s", "3 h 20 min"]


def test_no_run_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no such settings of a run"):
        write_report(tmp_path)
    assert again.main([str(tmp_path)]) == again.main([]) == 2
    assert capsys.readouterr().out == ""
