"""report.html and progress.png: their numbers are those of metrics.jsonl, texts are escaped, failures are warnings."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from m3gal_cli.training import report
from m3gal_cli.training.report import __main__ as command
from m3gal_cli.training.report import write_report
from m3gal_cli.training.report.charts import MAX_POINTS, charts_of, split_at_gaps, thin
from m3gal_cli.training.report.page import format_duration, render_page
from m3gal_cli.training.report.picture import write_picture
from m3gal_cli.training.report.run_log import read_run_log
from m3gal_cli.training.report.svg import Axis
from tests.helpers.cli import steps, validations
from tests.helpers.sample_town import STEPS, train, write_lines

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Tags, texts and curves of a page, and the numbers of each table; every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open, self.paths, self.words = [], [], [], []
        self.values: dict[str, list[float]] = {}
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attrs}
        assert not {"src", "href", "onload", "onclick", "style"} & set(own)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.values[own["id"]] = []
        elif tag == "data" and "table" in self.open:
            list(self.values.values())[-1].append(float(own["value"]))
        elif tag == "path" and own.get("class", "").startswith("line"):
            self.paths.append(own["d"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def picture_of(run: Path) -> NDArray[np.uint8]:
    """Return the pixels of progress.png. Shape: -> (H, W, channels)."""
    with Image.open(run / "progress.png") as image:
        return np.asarray(image)


def write_run(folder: Path, rows: list[Any], config: str = "seed: 1\n", starts: Any = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    write_lines(folder / "metrics.jsonl", rows)
    if starts is not None:
        (folder / "environment.json").write_text(json.dumps({"starts": starts}), encoding="utf-8")
    return folder


def step(number: int, **more: Any) -> dict[str, Any]:
    row = {"kind": "step", "step": number, "epoch": 0, "text_loss": 9.0 / number, "location_loss": 8.0}
    return row | {"fused_loss": 17.0 / number, "lr": 1e-3, "location_lr": 2e-3, "samples_per_second": 100.0} | more


def validation(number: int, value: float) -> dict[str, Any]:
    metrics = {k: {"recall@1": value, "recall@5": 0.5, "mrr@5": 0.25} for k in ("text", "location", "fused")}
    return {"kind": "validation", "step": number, "epoch": 0, "n_queries": 12, "seconds": 1.5, "metrics": metrics}


@pytest.fixture(scope="module", autouse=True)
def with_pictures() -> Iterator[None]:
    """Draw progress.png, which other tests leave out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_picture", write_picture)
        yield


@pytest.fixture(scope="module")
def run(profile: Path) -> Path:
    return train("pretrain", profile, "whole").run


def test_the_page_has_the_numbers_of_the_run(run: Path) -> None:
    seen, found = page_of(run), validations(run)
    best = max(found, key=lambda row: row["metrics"]["fused"]["recall@1"])
    names = ("recall@1", "recall@3", "recall@5", "mrr@5", "ndcg@5", "median_error_m", "within_100m", "within_1km")
    kinds = ("text", "location", "fused")
    for table, row in (("best", best), ("last", found[-1])):
        assert seen.values.get(table, seen.values["best"]) == [row["metrics"][k][n] for k in kinds for n in names]
    shown = [row["metrics"][k][n] for row in found for k in kinds for n in ("recall@1", "recall@5", "mrr@5")]
    assert seen.values["all"] == shown
    for part in ("stage pretrain", "rows 64", f"steps {3 * STEPS} of {3 * STEPS}", f"epochs 3 (of {STEPS} steps)"):
        assert part in seen.text
    assert "warnings 0" in seen.text
    assert (run / "config.yaml").read_text(encoding="utf-8").strip() in "".join(seen.words)
    assert {"script", "img", "link", "iframe"} & set(seen.tags) == set()


def test_the_environment_of_both_starts_of_a_resumed_run_is_shown(profile: Path) -> None:
    run = train("pretrain", profile, "parts", "--max-steps", 1).run
    train("pretrain", profile, "parts", "--max-steps", 2, "--resume", "auto")
    first, second = json.loads((run / "environment.json").read_text(encoding="utf-8"))["starts"]
    wanted = {"torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads()}
    wanted |= {"rows": 64, "steps": 1, "steps_per_epoch": STEPS, "processes": 1, "device": "cpu"}
    assert {name: first[name] for name in wanted} == wanted
    assert [(s["first_step"], s["last_step"]) for s in (first, second)] == [(0, 1), (1, 2)]
    assert first["seconds"] > 0
    for part in (f"torch {torch.__version__}", first["cpu"], "resumed at step 1", "steps 2 of 2"):
        assert part in page_of(run).text


def test_the_curves_are_the_logged_ones(run: Path) -> None:
    charts = {chart.title: chart for chart in charts_of(read_run_log(run))}
    loss = {s.name: s.points for s in charts["Loss"].series}
    for name in ("text", "location", "fused"):
        assert loss[name] == [(row["step"], row[f"{name}_loss"]) for row in steps(run)]
        recall = {s.name: s.points for s in charts["Validation, recall@1"].series}[name]
        assert recall == [(row["step"], row["metrics"][name]["recall@1"]) for row in validations(run)]
    assert charts["Tokens per second"].series[0].points[0] == (1, steps(run)[0]["tokens_per_second"])


def test_the_picture_can_be_drawn_again(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = picture_of(run)
    assert (picture[..., :3] < 255).any(axis=2).mean() > 0.01
    (run / "progress.png").unlink()
    assert command.main([str(run)]) == 0
    assert picture_of(run).shape == picture.shape
    capsys.readouterr()
    assert command.main([str(tmp_path)]) == command.main([]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("fails", ["write_page", "write_picture", "write_starts"])
def test_a_report_that_fails_is_one_warning(profile: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, fails, fail)
    answer = train("pretrain", profile, f"full-{fails}", "--epochs", 2)
    assert answer.run.is_dir()
    assert answer.err.count("warning:") == 1
    assert "No space left on device" in answer.err
    assert len(validations(answer.run)) == 2
    assert not list(answer.run.glob(".*.tmp"))


EVIL = "<script>alert(1)</script>\"'&amp;\ud800"


def test_texts_of_a_run_are_escaped(tmp_path: Path) -> None:
    rows = [step(1), {"kind": "warning", "step": 1, "text": EVIL}, validation(1, 0.5)]
    rows[2]["metrics"]["<img onerror=x>"] = {"recall@1": 0.1}
    starts = [{"<b>": EVIL, "cpu": "<i>x</i>", "seconds": "<u>", "steps": "<s>", "first_step": None}] * 2
    run = write_run(tmp_path / "<script>alert(2)<b> $x^$", rows, "run: {name: </pre><script>}\n", starts)
    write_report(run)
    seen = page_of(run)
    assert {"script", "img", "i", "u", "s"} & set(seen.tags) == set()
    for text in ("<script>alert(1)</script>\"'&amp;?", "<script>alert(2)<b> $x^$", "run: {name: </pre><script>}"):
        assert text in seen.text
    assert picture_of(run).size


def test_unreadable_lines_are_counted_and_missing_values_interrupt_the_curve(tmp_path: Path) -> None:
    rows: list[Any] = [step(i) for i in range(1, 8)]
    rows[2].pop("text_loss")
    rows[3]["fused_loss"] = float("nan")
    rows[4] |= {"location_loss": "high", "lr": True}
    rows += ['{"kind": "step", "st', "[1]", '{"kind": "step"}', '{"kind": "validation", "step": 3}', "\x00", ""]
    rows += [validation(7, 0.5) | {"metrics": {"fused": {"recall@1": None}, "text": 3}}]
    run = write_run(tmp_path / "run", rows, starts="nonsense")
    run_log = read_run_log(run)
    assert (len(run_log.steps), len(run_log.validations), run_log.unreadable, run_log.best) == (7, 1, 5, None)
    curves = {s.name: split_at_gaps(s.points) for s in charts_of(run_log)[0].series}
    for name, gap in (("text", 3), ("fused", 4), ("location", 5)):
        assert [[x for x, _ in piece] for piece in curves[name]] == [[*range(1, gap)], [*range(gap + 1, 8)]]
    write_report(run)
    assert "5 lines of metrics.jsonl" in page_of(run).text


@pytest.mark.parametrize("count", [0, 1, 3, 5001])
def test_runs_of_every_length(tmp_path: Path, count: int) -> None:
    seen = Page(render_page(read_run_log(write_run(tmp_path / "run", [step(i) for i in range(1, count + 1)]))))
    assert len(seen.paths) >= (6 if count > 1 else 0)
    assert max((path.count("L") + 1 for path in seen.paths), default=0) <= MAX_POINTS
    assert ("each point is the mean of 6 logged lines" in seen.text) == (count == 5001)
    assert ("No step is logged yet." in seen.text) == (count == 0)


def test_durations_are_formatted_and_thinning_takes_means() -> None:
    assert [format_duration(s) for s in (1.23, 245, 12_000)] == ["1.2 s", "4 min 05 s", "3 h 20 min"]
    points = [(1, 2.0), (2, 4.0), (3, None), (4, 5.0), (5, None), (6, None), (7, 1.0)]
    assert thin(points, 2) == [(1.5, 3.0), (4, 5.0), (5, None), (7, 1.0)]


def test_ticks_are_round_values_with_different_labels() -> None:
    labels = {
        (0.001, 0.0005): ["0.0006", "0.0008", "0.0010"],
        (45000.0, 46000.0): ["45,000", "45,250", "45,500", "45,750", "46,000"],
        (0.0,): ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"],
    }
    for values in (*labels, (-3, -3), (1e-9, 2e-9), (1e12, 2e12), (-4, 1), (0.1, 0.1 + 1e-15)):
        axis = Axis(values, 0, 100)
        found = [axis.label(tick) for tick in axis.ticks]
        assert found == labels.get(values, found)
        assert 2 <= len(found) == len(set(found)) <= 12
        assert all(0 <= axis(v) <= 100 for v in (*values, *axis.ticks))


@pytest.mark.parametrize("step_of_fit", [7, 3])
def test_the_reranked_score_of_the_best_checkpoint_is_shown(tmp_path: Path, step_of_fit: int) -> None:
    """The table shows it if it belongs to the best checkpoint, which it always does unless the file was edited."""
    reranked = {"reranked": {"recall@1": 0.625, "recall@5": 0.75, "mrr@5": 0.7}}
    row = {"kind": "reranker", "step": step_of_fit, "epoch": 0, "n_queries": 12, "metrics": reranked}
    run_log = read_run_log(write_run(tmp_path / "run", [step(1), validation(3, 0.25), validation(7, 0.5), row]))
    seen = Page(render_page(run_log))
    assert "best recall@1 fused 0.500, reranked 0.625" in seen.text
    assert (0.7 in seen.values["best"]) == (step_of_fit == 7)
    chart = next(chart for chart in charts_of(run_log) if chart.title == "Validation, recall@1")
    assert chart.series[-1].name == "reranked"
    assert chart.series[-1].points == [(step_of_fit, 0.625)]
    write_report(tmp_path / "run")
    assert picture_of(tmp_path / "run").size
