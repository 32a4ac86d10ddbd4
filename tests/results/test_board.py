"""The board: bars, means over folds and seeds, the table, stored results, and finetunings that continue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import board
import pytest
from quality import board as table
from quality import board_training
from quality.board import BM25, FINETUNED, PACKAGED, TFIDF, Bar, board_cells, markdown_board
from quality.board_training import BoardTraining
from quality.folds import Dataset, SplitPlan, make_fold
from quality.m3gal_methods import model_hash
from quality.result_store import ResultStore

from m3gal_cli.errors import InputError

PLAN = SplitPlan(validation=6)


def line(column: str, name: str, fold: str = "all", seed: int = 0, **metrics: float) -> dict[str, Any]:
    return {
        "column": column,
        "set": name,
        "fold": fold,
        "seed": seed,
        "hash": "h",
        "identity": "i",
        "queries": 10,
    } | metrics


def test_bars_refer_to_other_columns() -> None:
    cells = {TFIDF: 0.5, BM25: 0.6}
    assert Bar(0.7).threshold({}) == 0.7
    assert Bar(0.04, (TFIDF,)).threshold(cells) == pytest.approx(0.54)
    assert Bar(0.0, (TFIDF, BM25)).threshold(cells) == 0.6
    assert Bar(-0.01, (PACKAGED,)).threshold(cells) is None
    assert Bar(0.5).is_met(0.49996, 0.5)  # equal with three decimals
    assert not Bar(0.5, above=True).is_met(0.5, 0.5)


def test_values_are_weighted_means_over_folds_for_each_seed_and_the_newest_line_counts() -> None:
    lines = [
        line(FINETUNED, "geotes", "0", 1, **{"recall@1": 0.1}),
        line(FINETUNED, "geotes", "0", 1, **{"recall@1": 1.0}),
        line(FINETUNED, "geotes", "1", 1, **{"recall@1": 0.5}) | {"queries": 30},
        line(FINETUNED, "geotes", "0", 2, **{"recall@1": 0.3}),
        line(FINETUNED, "edinburgh", "0", 1) | {"error": "failed"},
        line(FINETUNED, "pittsburgh", "0", 1, **{"recall@1": 0.9}) | {"identity": "older"},
    ]
    cells = board_cells([lines[-1], *lines[:-1]], "recall@1")
    assert set(cells) == {(FINETUNED, "geotes")}
    assert cells[FINETUNED, "geotes"] == pytest.approx([(10 * 1.0 + 30 * 0.5) / 40, 0.3])


def test_the_table_marks_met_and_missed_bars() -> None:
    lines = [line(TFIDF, "pittsburgh", **{"recall@1": 0.8}), line(PACKAGED, "pittsburgh", **{"recall@1": 0.84})]
    lines += [line(FINETUNED, "pittsburgh", "0", seed, **{"recall@1": 0.8 + seed / 100}) for seed in (1, 3)]
    lines += [line(PACKAGED, "geotes", ece=0.03, auc=0.9, ms=15.24)]
    recall, confidence = markdown_board(lines).split("\n\n")
    rows = {row.split(" | ")[0]: row for row in recall.splitlines()}
    expected = "| pittsburgh | recall@1 | .800 |  | **.840** | ≥ .840 | .820 (.810 to .830) missed | ≥ .830 |"
    assert rows["| pittsburgh"] == expected
    assert "| edinburgh | recall@1 |  |  |  |  |  |  |" in recall
    assert "| geotes | **.030** | .900 missed |  | 15.2 missed |  |  |  |  |" in confidence


def test_every_set_of_the_board_has_a_bar() -> None:
    from quality.sets import set_names

    assert {row.set for row in table.ROWS} == set(set_names())


def run_board(*words: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        board.main([str(word) for word in words])
    return int(stopped.value.code or 0)


def test_plain_columns_are_measured_once(geotes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--data", geotes.parent, "--folder", tmp_path / "kept", "--sets", "geotes", "--columns"]
    assert run_board(*common, TFIDF) == 0
    first = capsys.readouterr()
    assert run_board(*common, TFIDF, BM25) == 0
    second = capsys.readouterr()
    assert (first.err.count("TF-IDF, geotes"), second.err.count("TF-IDF, geotes")) == (1, 0)
    assert len(ResultStore(tmp_path / "kept" / "board.jsonl").lines()) == 2
    assert run_board(*common, TFIDF, "--table") == 0
    assert capsys.readouterr().out == second.out
    assert run_board("--data", geotes.parent, "--folder", tmp_path / "kept", "--sets", "nowhere") == 2


def test_a_failed_measurement_ends_with_exit_code_1(
    geotes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", geotes.parent, "--folder", tmp_path, "--sets", "geotes", "--columns", PACKAGED]
    assert run_board(*common, "--model", tmp_path / "none") == 2  # refused before anything is measured
    assert "no such checkpoint" in capsys.readouterr().err


def test_finetunings_measure_the_fold_on_geotes_and_the_other_sets_on_the_first_fold(
    geotes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each finetuning is replaced by BM25, which shows what would be measured."""
    measured: list[tuple[str, str, int, int]] = []
    trained: list[tuple[str, int]] = []
    monkeypatch.setattr(board, "PLAN", PLAN)
    monkeypatch.setattr(board, "settings_hash", lambda model: "same")
    monkeypatch.setattr(BoardTraining, "run", lambda self, fold, seed: trained.append((fold.name, seed)) or tmp_path)
    monkeypatch.setattr(BoardTraining, "delete", lambda self: None)
    monkeypatch.setattr(board.m3gal, "engine", lambda model, confidence: board.PLAIN[BM25])
    common = ["--data", geotes.parent, "--folder", tmp_path / "kept", "--columns", FINETUNED]
    others = board.load_sets(["geotes"], geotes.parent, tmp_path)[0]
    sets = [others, board.replace(others, name="pittsburgh")]
    monkeypatch.setattr(board, "load_sets", lambda *arguments: sets)
    assert run_board(*common, "--folds", 0, 1, "--seeds", 1, 2) == 0
    for stored in ResultStore(tmp_path / "kept" / "board.jsonl").lines():
        measured.append((stored["set"], stored["fold"], stored["seed"], stored["queries"]))
    assert trained == [("0", 1), ("1", 1), ("0", 2), ("1", 2)]
    assert sorted(measured) == sorted(
        (name, fold, seed, queries)
        for seed in (1, 2)
        for name, fold, queries in (("geotes", "0", 8), ("geotes", "1", 8), ("pittsburgh", "0", 40))
    )
    assert run_board(*common, "--folds", 0, 1, 2, "--seeds", 1) == 0
    assert trained[4:] == [("2", 1)]  # the others are stored


def test_a_killed_finetuning_is_resumed_and_a_finished_one_is_kept(
    geotes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def made(*words: object, log: Path) -> None:
        commands.append([str(word) for word in words])
        (tmp_path / "run" / "last").mkdir(parents=True, exist_ok=True)
        if len(commands) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(board_training, "m3gal", made)
    training, fold = BoardTraining("packaged", tmp_path), make_fold(Dataset(geotes), "0", PLAN)
    with pytest.raises(KeyboardInterrupt):
        training.run(fold, 3)
    assert training.run(fold, 3) == training.run(fold, 3) == tmp_path / "run"
    first, second = commands
    assert first[first.index("--init") + 1] == "packaged"
    assert "--resume" not in first
    assert second[second.index("--resume") + 1] == "auto"
    assert "--init" not in second
    assert first[first.index("--seed") + 1] == "3"
    training.delete()
    assert not (tmp_path / "run").exists()
    training.run(fold, 3)
    assert len(commands) == 3


def test_the_hash_of_a_model_changes_with_its_weights_and_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        model_hash(str(tmp_path / "none"))
    assert len(model_hash("packaged")) == 12
