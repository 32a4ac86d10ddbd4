"""The direction of the arrows between the rooms, the house's measures, and a start without heavy imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "m3gal_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
BENCHMARKS = sorted((PACKAGE.parent / "benchmarks").rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]

# What a room may import of the others: cli -> config, data, training, retrieval, evaluation -> core.
ROOMS = {
    "errors": set(),
    "core": {"errors"},
    "config": {"errors"},
    "data": {"errors"},
    "retrieval": {"core", "data", "errors"},
    "evaluation": {"data", "retrieval", "errors"},
    "training": {"config", "core", "data", "evaluation", "retrieval", "errors"},
    "session": {"config", "core", "data", "retrieval", "training", "errors"},
    "api": {"config", "data", "errors", "retrieval", "session"},
    "cli": {"session", "config", "core", "data", "evaluation", "retrieval", "training", "errors", "__init__"},
    "__main__": {"cli"},
    "__init__": {"api"},
}
# Libraries that only these rooms may import.
LIBRARIES = {
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli"},
    "pydantic": {"config"},
    "accelerate": {"training"},
    "transformers": {"core", "cli"},
    "safetensors": {"core"},
    "tokenizers": {"core"},
    "torch": {"core", "data", "retrieval", "training", "session", "cli"},
    "osmium": {"data"},
    "shapely": {"data"},
    "bm25s": {"retrieval"},
    "faiss": {"retrieval"},
    "onnx": {"retrieval"},
    "onnxruntime": {"retrieval"},
    "pymilvus": {"retrieval"},
    "milvus_lite": {"retrieval"},
    "grpc": {"retrieval"},
    "matplotlib": {"training"},
    "yaml": {"config", "data"},
    "pandas": {"data", "evaluation", "retrieval", "training", "cli"},
}
HEAVY = {"torch", "transformers", "pandas", "numpy", "pyarrow", "scipy", "shapely", "osmium", "accelerate", "bm25s"}
HEAVY |= {
    "safetensors",
    "tokenizers",
    "tensorboard",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "faiss",
    "pymilvus",
    "milvus_lite",
    "grpc",
}


def room(path: Path) -> str:
    """The folder, or the module that stands by itself, that a file of the package belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(source: str, path: Path) -> set[str]:
    """Full names of all that a file imports, inside functions too, relative ones resolved."""
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def broken(source: str, path: Path) -> list[str]:
    """Imports of a file that go against the arrows, or that belong to another room."""
    own, wrong = room(path), []
    for name in sorted(imports(source, path)):
        top, _, rest = name.partition(".")
        if top == PACKAGE.name:
            other = rest.split(".")[0]
            other = other if other in ROOMS else "__init__"
            if other not in ROOMS[own] | {own}:
                wrong.append(name)
        elif own not in LIBRARIES.get(top, {own}):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_point_one_way(path: Path) -> None:
    assert broken(path.read_text(encoding="utf-8"), path) == []


def test_every_room_is_known() -> None:
    assert {room(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize(
    ("file", "line", "name"),
    [
        ("core/model.py", "from m3gal_cli.config.schema import Config", "m3gal_cli.config.schema.Config"),
        ("core/model.py", "import m3gal_cli.data.files", "m3gal_cli.data.files"),
        ("core/model.py", "from m3gal_cli import retrieval", "m3gal_cli.retrieval"),
        ("core/model.py", "from ..training import loop", "m3gal_cli.training.loop"),
        ("data/osm/build.py", "from ...cli import console", "m3gal_cli.cli.console"),
        (
            "evaluation/ranks.py",
            "def f():\n    from m3gal_cli.training.loop import Trainer",
            "m3gal_cli.training.loop.Trainer",
        ),
        ("training/loop.py", "from rich.progress import Progress", "rich.progress.Progress"),
        ("evaluation/metrics.py", "import torch.nn as nn", "torch.nn"),
        ("errors.py", "from . import core", "m3gal_cli.core"),
    ],
)
def test_an_import_against_the_arrows_is_noticed(file: str, line: str, name: str) -> None:
    assert broken(line, PACKAGE / file) == [name]
    assert broken("from m3gal_cli.errors import InputError\nimport json, numpy", PACKAGE / file) == []


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Arguments of a function, an object's own not counted."""
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_measures_of_the_house(path: Path) -> None:
    """Files of up to 400 lines, functions of up to 60; up to 8 arguments, but where they are a command's options."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert [node.name for node in functions(path) if node.end_lineno - node.lineno >= 60] == []
    if room(path) != "cli":
        assert [node.name for node in functions(path) if arguments(node) > 8] == []


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_measures_of_the_benchmarks(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert [node.name for node in functions(path) if node.end_lineno - node.lineno >= 60] == []
    assert [node.name for node in functions(path) if arguments(node) > 8] == []


HELP = """
import sys
from m3gal_cli.cli.app import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("command", "shown"), [((), "eval-rerank"), (("pretrain",), "--moco-k"), (("data", "osm"), "--seed")]
)
def test_help_imports_nothing_heavy(command: tuple[str, ...], shown: str) -> None:
    line = [sys.executable, "-c", HELP, *command, "--help"]
    answer = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    assert shown in answer.stdout
    modules = set(answer.stderr.split())
    assert "m3gal_cli.cli.pretrain" in modules
    assert modules & HEAVY == set()
