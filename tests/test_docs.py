"""README, docs and Makefile: commands parse and run, links lead somewhere, reference pages match the code."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from m3gal_cli.cli.app import app
from m3gal_cli.cli.reference import cli_reference
from m3gal_cli.compat.option_names import normalise_spelling
from m3gal_cli.config.load import known_keys, load_config, profile_names
from m3gal_cli.config.reference import settings_reference
from m3gal_cli.data.sample import copy_sample
from tests.helpers.sample_town import record, write_lines

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> str:
    """Return the code blocks of a page in these languages, joined."""
    return "\n".join(re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))


def commands(text: str) -> list[str]:
    """Return the ``m3gal …`` command lines of shell text without comments, pipes and redirections."""
    lines = re.findall(r"(?:^|\| |&& )(m3gal [^#|>\n]*)", text.replace("\\\n", " "), flags=re.MULTILINE)
    return sorted({line.strip() for line in lines})


ALL_COMMANDS = commands("\n".join(blocks(text, "sh", "bash") for text in TEXTS.values()) + "\n" + MAKEFILE)


def parsed(line: str) -> TyperCommand:
    """Return the command that a line names, after parsing its options without running it."""
    words = normalise_spelling(shlex.split(line)[1:])
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        name = words.pop(0)
        assert name in command.commands, f"no command {name!r}"
        command = command.commands[name]
    assert isinstance(command, TyperCommand)
    context = command.make_context("m3gal", words)
    profile = context.params.get("config")
    assert profile is None or profile in profile_names()
    load_config(profile, sets=context.params.get("set_") or ())
    return command


@pytest.mark.parametrize("line", ALL_COMMANDS)
def test_commands_of_the_docs_parse(line: str) -> None:
    assert parsed(line).callback is not None


def test_every_command_is_documented() -> None:
    shown = {parsed(line).name for line in ALL_COMMANDS}
    assert {"osm", "table", "geotes", "inspect", "pretrain", "finetune", "eval-retrieval", "eval-rerank"} <= shown
    assert "predict" in shown


def test_an_unknown_option_is_noticed() -> None:
    with pytest.raises(typer._click.exceptions.NoSuchOption):
        parsed("m3gal pretrain --no-such-option 3")


def test_documented_make_targets_exist() -> None:
    wanted = set(re.findall(r"(?:^|`)make ([a-z]+)", "\n".join(TEXTS.values()), flags=re.MULTILINE))
    assert {"demo", "test", "integration", "slow", "docs"} <= wanted
    assert wanted <= set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=list(TEXTS))
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[str(page.relative_to(ROOT))]):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}, link


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 180


@pytest.mark.parametrize(
    ("page", "generated"), [("cli.md", cli_reference), ("settings.md", settings_reference)], ids=["cli", "settings"]
)
def test_reference_pages_match_the_code(page: str, generated: object) -> None:
    assert callable(generated)
    assert TEXTS[f"docs/reference/{page}"] == generated(), "run make reference"


def mapping() -> list[tuple[set[str], set[str]]]:
    """Return the published options and the settings of each row of the mapping table."""
    part = TEXTS["docs/published-code.md"].split("| published option |")[1].split("\n\n")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("| `--")]
    return [
        (set(re.findall(r"`(--[a-z0-9-]+)", left)), set(re.findall(r"`([a-z_]+\.[a-z_]+)`", right)))
        for left, _, right in rows
    ]


def test_settings_of_the_mapping_table_exist() -> None:
    assert set().union(*(settings for _options, settings in mapping())) <= set(known_keys())


def test_every_published_option_is_in_the_mapping_table(shared: Path) -> None:
    page = (shared / "published" / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python -m .*$", page, flags=re.MULTILINE)
    published = {word.replace("_", "-") for line in lines for word in re.findall(r"--[\w-]+", line)}
    assert published <= set().union(*(options for options, _settings in mapping()))


# --- the commands run ------------------------------------------------------------------------------------------------

FEW_STEPS = {"M3GAL_OPTIM__MAX_STEPS": "3", "M3GAL_RUN__VALIDATION_QUERIES": "40"}


def shell(script: str, folder: Path) -> None:
    """Run shell text as a user would, with this package as ``m3gal`` and trainings of three steps."""
    environment = os.environ | FEW_STEPS | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    wrapper = folder.parent / "bin" / "m3gal"
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m m3gal_cli "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    environment["PATH"] = f"{wrapper.parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the pages name, data of the sample city and a run ``pretrained``."""
    folder = tmp_path_factory.mktemp("docs") / "work"
    folder.mkdir()
    extract = copy_sample(folder / "data")
    shutil.copy(extract, folder / "city.osm.pbf")
    shutil.copy(extract.parent / "queries.jsonl", folder / "queries.jsonl")
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    (folder / "queries.csv").write_text("query\n" + "\n".join(q["query"] for q in queries), encoding="utf-8")
    (folder / "GeoTES").mkdir()
    for split, first in {"train": 0, "dev": 12, "test": 20}.items():
        write_lines(folder / "GeoTES" / f"{split}_dataset.jsonl", [record(first + i) for i in range(8)])
    shell("m3gal data osm city.osm.pbf && m3gal pretrain --config demo.yaml --run-name pretrained", folder)
    shutil.copy(next((folder / "data").glob("poi_database*.csv")), folder / "pois.csv")
    return folder


@pytest.mark.integration
@pytest.mark.parametrize("page", [name for name, text in TEXTS.items() if blocks(text, "sh")])
def test_commands_of_a_page_run(workplace: Path, tmp_path: Path, page: str) -> None:
    folder = tmp_path / "work"
    shutil.copytree(workplace, folder, symlinks=True)
    if page.endswith("quickstart.md"):  # it starts in an empty folder
        shutil.rmtree(folder)
        folder.mkdir()
    shell(blocks(TEXTS[page], "sh"), folder)


@pytest.mark.integration
def test_python_examples_run(workplace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(workplace, folder, symlinks=True)
    for page in ("README.md", "docs/matching.md"):
        code = blocks(TEXTS[page], "python").replace("runs/NAME", "runs/pretrained")
        code = code.replace("runs/finetuned", "runs/pretrained")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
