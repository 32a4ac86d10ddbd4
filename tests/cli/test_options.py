"""Options: published and earlier names, help, settings and their precedence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from m3gal_cli import __version__
from m3gal_cli.cli.app import app
from m3gal_cli.cli.options import PUBLISHED
from m3gal_cli.cli.reference import cli_reference
from m3gal_cli.compat.option_names import PLAIN_NAME_OF, normalise_spelling
from tests.helpers.cli import ENVIRONMENT, done, m3gal
from tests.helpers.sample_town import town_with_run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return town_with_run(tmp_path_factory.mktemp("options"))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["pretrain", "--gc_lr=a_b"], ["pretrain", "--gc-lr=a_b"]),
        (["eval_retrieval", "--poi_database_filepath", "a_b"], ["eval-retrieval", "--poi-database-filepath", "a_b"]),
        (["predict", "my_file", "-o", "a_b"], ["predict", "my_file", "-o", "a_b"]),
        (["finetune", "--schedule", "40", "80"], ["finetune", "--schedule", "40", "--schedule", "80"]),
        (["predict", "--", "--a_b"], ["predict", "--", "--a_b"]),
    ],
)
def test_published_spellings_are_normalised(given: list[str], wanted: list[str]) -> None:
    assert normalise_spelling(given) == wanted


def settings_of(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    return value


PLAIN = {"--lr-location": 0.003, "--queue-size": 24, "--temperature": 0.2, "--momentum-text": 0.6}
PLAIN |= {"--momentum-location": 0.7, "--momentum-increment": 0.2, "--log-every": 3, "--run-name": "named"}


@pytest.mark.parametrize("spelling", ["plain", "published", "underscore"])
def test_plain_and_published_names_set_the_same_settings(here: Path, tmp_path: Path, spelling: str) -> None:
    published = {plain: name for name, plain in PLAIN_NAME_OF.items()}
    options = {plain if spelling == "plain" else published[plain]: value for plain, value in PLAIN.items()}
    if spelling == "underscore":
        options = {f"--{name.removeprefix('--').replace('-', '_')}": value for name, value in options.items()}
    given = [part for name, value in options.items() for part in (name, value)]
    switches = ["--bert_from_local"] if spelling == "underscore" else ["--bert-from-local", "--load-model"]
    given += [*switches, "--batch-size", 8, "--max-steps", 0, "--runs-dir", tmp_path]
    run = done(m3gal("pretrain", "-c", here / "data/tiny.yaml", *given, "--schedule", 40, 80)).run
    assert run == tmp_path / "named"
    settings = settings_of(run)
    optim, momentum = settings["optim"], settings["momentum"]
    assert (optim["schedule"], optim["batch_size"], optim["location_lr"]) == ([40, 80], 8, 0.003)
    assert (momentum["queue_size"], momentum["temperature"], momentum["text"]) == (24, 0.2, 0.6)
    assert (momentum["location"], momentum["location_increment"]) == (0.7, 0.2)
    assert settings["run"]["print_freq"] == 3


@pytest.mark.parametrize("names", [("--pois", "--test"), ("--poi-database-filepath", "--test-dataset-filepath")])
def test_the_tables_of_an_evaluation_have_two_names(here: Path, names: tuple[str, str]) -> None:
    answer = m3gal("eval-retrieval", names[0], "no.csv", names[1], here / "data/val_dataset_use_gis.jsonl")
    assert (answer.code, "no.csv: no such table" in answer.err) == (2, True)
    assert "no.jsonl: no such" in m3gal("eval-rerank", "--moco-k", 8, names[1], "no.jsonl").err


def test_earlier_names_work_but_help_does_not_show_them(here: Path, tmp_path: Path) -> None:
    given = ("-c", here / "data/tiny.yaml", "--batch-size", 4, "--max-steps", 0, "--runs-dir", tmp_path)
    run = done(m3gal("finetune", *given, "--members", 3)).run
    assert settings_of(run)["optim"]["soup_size"] == 3
    assert "--members" not in done(m3gal("finetune", "--help")).out
    refused = m3gal("eval-retrieval", "--no-hybrid", "--run-score", "hybrid")
    assert "--run-score reranked: there is no reranker" in refused.err
    assert "no score 'reranked'" in m3gal("eval-rerank", "--fail-under", "hybrid.recall@1=0.5").err


def test_an_error_names_the_option_as_it_was_given(here: Path) -> None:
    assert "--gc-lr" in m3gal("pretrain", "--gc-lr", "x").err
    assert "error: --batch-size: input should be greater" in m3gal("pretrain", "-c", "demo.yaml", "-b", 0).err


def test_old_settings_give_one_warning_line(here: Path, tmp_path: Path) -> None:
    profile = tmp_path / "old.yaml"
    profile.write_text((here / "data/tiny.yaml").read_text().replace(" text: 0.9,", " m: 0.9,"))
    given = ("--max-steps", 0, "--runs-dir", tmp_path, "--set", "data.max_words=9", "--set", "eval.reranker=x")
    err = done(m3gal("pretrain", "-c", profile, *given)).err
    line = "renamed settings: momentum.m is now momentum.text, data.max_words is now data.max_chars"
    assert err.count("warning: ") == 1
    assert f"warning: {line}; eval.reranker is no longer supported\n" in err


def test_the_settings_of_the_run_replace_the_profile_in_predict(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(*given: object) -> int:
        return len(done(m3gal("predict", "-", *given, stdin="cafe\n")).lines()[0]["matches"])

    assert count() == 5
    monkeypatch.setenv("M3GAL_EVAL__TOP_K", "2")
    assert count() == 2
    assert count("-k", 3) == 3
    assert count("--set", "eval.top_k=4", "-k", 3) == 4


def commands() -> dict[str, Any]:
    found, group = {}, typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        found |= {f"{name} {sub}": c for sub, c in getattr(command, "commands", {}).items()} or {name: command}
    return found


def test_the_top_level_help_lists_all_commands() -> None:
    top = done(m3gal("--help")).out
    assert all(name.split()[0] in top for name in commands())
    assert done(m3gal("--version")).out == f"m3gal {__version__}\n"


@pytest.mark.parametrize("name", list(commands()))
def test_help_and_reference_list_every_option_the_published_names_last(name: str) -> None:
    text = done(m3gal(*name.split(), "-h")).out
    words = set(text.replace("│", " ").replace(",", " ").split())
    section = cli_reference().partition(f"## m3gal {name}\n")[2].partition("\n## ")[0]
    documented = set(section.replace("`", " ").replace(",", " ").replace("/", " ").split())
    for parameter in commands()[name].params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            for option in parameter.opts:
                assert (option in words) == (option in documented) == (not parameter.hidden), option
                published = parameter.rich_help_panel == PUBLISHED
                assert published or option not in PLAIN_NAME_OF
                assert "[" not in parameter.help.replace("\\[", ""), "Rich would remove it"
    panels = [line.strip("╭─╮ ") for line in text.splitlines() if line.startswith("╭")]
    assert PUBLISHED not in panels[:-1]


@pytest.mark.integration
def test_shells_get_a_completion_script_and_completions() -> None:
    def run(*args: str, **environment: str) -> str:
        command = [sys.executable, "-m", "m3gal_cli", *args]
        given = ENVIRONMENT | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"} | environment
        return subprocess.run(command, env=given, text=True, capture_output=True, check=True).stdout

    assert "_M3GAL_COMPLETE=complete_bash" in run("--show-completion", "bash")
    names = run(_M3GAL_COMPLETE="complete_bash", COMP_WORDS="m3gal pre", COMP_CWORD="1")
    assert set(names.split()) == {"predict", "pretrain"}
    options = run(_M3GAL_COMPLETE="complete_bash", COMP_WORDS="m3gal pretrain --lr", COMP_CWORD="2")
    assert {"--lr", "--lr-location"} <= set(options.split())


@pytest.mark.integration
@pytest.mark.parametrize(("word", "code"), [("--version", 0), ("--no-such-option", 2)])
def test_a_process_of_torchrun_keeps_its_output_and_exit_code(word: str, code: int) -> None:
    command = [sys.executable, "-m", "m3gal_cli", word]
    runs = [
        subprocess.run(command, env=ENVIRONMENT | {"WORLD_SIZE": size}, text=True, capture_output=True, check=False)
        for size in ("1", "2")
    ]
    assert [run.returncode for run in runs] == [code, code]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stderr == runs[1].stderr
    assert runs[0].stdout + runs[0].stderr
