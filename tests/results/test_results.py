"""The command ``results.py`` on a made-up folder, the runner, and the methods of m3gal and sentence-transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import results
from quality import m3gal_methods
from quality.evaluation_set import EvaluationSet
from quality.folds import Dataset, SplitPlan, make_fold
from quality.interface import Job, Options, Result
from quality.m3gal_methods import NO_LOCATION, Recipe
from quality.methods import METHODS, select_methods
from quality.result_store import ResultStore
from quality.runner import RunGrid, planned_runs, run_missing

from m3gal_cli.errors import InputError
from tests.helpers.cli import m3gal
from tests.helpers.sample_town import PROFILE

BASELINES = ["--methods", "bm25", "bm25 + distance"]
PLAN = SplitPlan(validation=6)


def exit_code(*words: object) -> int:
    """Run ``results.py`` with these arguments and return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        results.main([str(word) for word in words])
    return int(stopped.value.code or 0)


def test_missing_runs_are_run_once_and_stored_ones_are_printed(
    geotes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", geotes, "--folder", tmp_path / "kept", "--validation", 6, *BASELINES]
    assert exit_code(*common, "--folds", 0, 1) == 0
    assert len(ResultStore(tmp_path / "kept" / results.STORE_FILE).lines()) == 4
    first = capsys.readouterr()
    assert "[4/4] bm25 + distance, fold 1" in first.err
    assert first.out.count("\n| bm25") == first.out.count("| 2 × 1 |") == 2
    assert exit_code(*common, "--seeds", 5, 6) == 0  # the baselines do not depend on the seed
    second = capsys.readouterr()
    assert "[8/8]" in second.err
    assert second.out.count("| 5 × 1 |") == second.out.count("| 1 × 1 |") == 2
    assert exit_code(*common, "--table", "--against", "bm25") == 0
    third = capsys.readouterr()
    assert third.err == ""
    assert second.out.splitlines()[:6] == third.out.splitlines()[:6]
    assert third.out.count("| minus bm25 |") == 2
    assert exit_code(*common, "--errors", "bm25") == 0
    assert "# bm25: " in capsys.readouterr().out
    assert (tmp_path / "kept" / results.ERRORS_FILE).is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*BASELINES, "--queries", "many"], "'many' is no number"),
        ([*BASELINES, "--table", "--against", "x"], "no row 'x'"),
    ],
)
def test_wrong_arguments_end_with_exit_code_2(
    geotes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[object], message: str
) -> None:
    assert exit_code("--data", geotes, "--folder", tmp_path / "kept", "--validation", 6, *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_a_failed_run_does_not_stop_the_others(geotes: Path, tmp_path: Path) -> None:
    def fail(job: Job) -> Result:
        raise InputError("no such thing")

    method = select_methods(["bm25"])[0]
    grid = RunGrid([replace(method, name="broken", run=fail), method], ["0"], [1], [None], PLAN)
    store = ResultStore(tmp_path / "results.jsonl")
    failed = run_missing(Dataset(geotes), grid, Options("none", None, None, tmp_path), store)
    assert [text.partition(":")[0] for text in failed] == ["broken, fold 0, seed 0, labels all"]
    assert [line["method"] for line in store.lines()] == ["bm25"]


def test_the_hash_of_a_run_covers_its_settings_and_nothing_else() -> None:
    options = Options("/models/e5", Path("a.osm.pbf"), None, Path())
    grid = RunGrid(METHODS, ["0", "dev"], [1, 2], [0, 50, None], PLAN)
    keys = [key for _, key, _ in planned_runs(grid, options, "d")]
    assert len(set(keys)) == len(keys)
    count = {m.name: sum(key.method == m.name for key in keys) for m in METHODS}
    assert (count["bm25"], count["sentence-transformers"], count["ours"]) == (2, 4, 12)
    hashes = {(key.method, key.hash) for key in keys}
    assert len(hashes) == len(METHODS)

    def changed(options: Options = options, data: str = "d", plan: SplitPlan = PLAN) -> set[str]:
        other = RunGrid(METHODS, ["0"], [1], [None], plan)
        return {name for name, _ in {(k.method, k.hash) for _, k, _ in planned_runs(other, options, data)} - hashes}

    names = {m.name for m in METHODS}
    assert changed(data="other") == changed(plan=SplitPlan()) == names
    assert changed(replace(options, folder=Path("elsewhere"), encoder="/other/e5")) == set()
    pretrained = {name for name in names if name == "ours, pretrained" or name.startswith("one training")}
    assert changed(replace(options, extract=Path("b.osm.pbf"))) == pretrained
    assert changed(replace(options, encoder="/models/bert")) == names - {"bm25", "bm25 + distance"}


def test_a_recipe_gives_every_kind_of_score(geotes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_here(*words: object, log: Path) -> None:
        """Replace the process of a command, which would spend its time on importing torch."""
        answer = m3gal(*words)
        assert answer.code == 0, answer.err
        log.write_text(answer.err, encoding="utf-8")

    monkeypatch.setattr(m3gal_methods, "m3gal", run_here)
    profile = tmp_path / "tiny.yaml"
    profile.write_text(PROFILE.replace("data: {dir: FOLDER}\n", "").replace("epochs: 3", "epochs: 1"), encoding="utf-8")
    recipe, options = (
        Recipe("tiny", str(profile), ("optim.batch_size=8", "eval.rerank=true")),
        Options("scratch", None, None, tmp_path),
    )
    assert recipe.settings(options)["optim"]["batch_size"] == 8
    fold = make_fold(Dataset(geotes), "0", SplitPlan(validation=20))
    job = Job(fold, 3, None, tmp_path / "job", options, timed=True)
    result = recipe.run(job)
    kinds = {"text", "location", "fused", "reranked"}
    assert set(result.rows) == kinds | {f"{kind}, {NO_LOCATION}" for kind in kinds}
    for kind in ("text", "location", "fused"):  # these do not use the query location
        assert result.rows[kind].ranks == result.rows[f"{kind}, {NO_LOCATION}"].ranks
    gold = EvaluationSet(fold.test, fold.pois).gold
    for kind in ("fused", "reranked"):
        row = result.rows[kind]
        assert len(row.ranks) == len(row.rerank or ()) == len(row.found or ()) == len(fold.test)
        assert [rank == 1 for rank in row.ranks] == [bool(gold[i, best]) for i, best in enumerate(row.found or ())]
    assert (result.rows["fused"].ms or 0) > 0 < result.minutes
    m3gal_methods.delete_run(job.folder)
    assert [path.name for path in job.folder.iterdir()] == ["log.txt"]


@pytest.mark.integration
def test_a_failed_command_raises_an_error_with_its_output(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"m3gal finetune ended with exit code 2: .*no such configuration"):
        m3gal_methods.m3gal("finetune", "--config", "none.yaml", log=tmp_path / "log.txt")
