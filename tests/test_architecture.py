"""The direction of imports, the size of files and functions, and a start without heavy imports."""

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

# Imports go downwards in this list only, between packages and between the modules of a package.
ORDER = ["__main__", "cli", "__init__", "api", "training", "evaluation", "matching", "rerank", "index", "encoders"]
ORDER += ["inspect", "label_source", "poi_source", "osm", "data", "compat", "core", "text", "geo", "config", "files"]
ORDER += ["errors"]
# Packages that may import fewer packages than the order allows.
ONLY = {
    "core": {"files", "errors"},
    "text": {"files", "errors"},
    "geo": {"files", "errors"},
    "config": {"files", "errors"},
}
# Only a training and its commands may import `training`: whatever answers queries starts without it.
TRAINERS = {"training", "cli"}
# Libraries that only these rooms may import.
LIBRARIES = {
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli"},
    "pydantic": {"config"},
    "accelerate": {"training"},
    "transformers": {"core", "cli"},
    "safetensors": {"core", "rerank", "training"},
    "tokenizers": {"core"},
    "torch": {"core", "compat", "encoders", "evaluation", "index", "matching", "training", "cli"},
    "osmium": {"osm"},
    "shapely": {"geo", "osm", "inspect"},
    "faiss": {"index"},
    "onnx": {"encoders"},
    "onnxruntime": {"encoders"},
    "pymilvus": {"index"},
    "milvus_lite": {"index"},
    "grpc": {"index"},
    "rapidfuzz": {"rerank", "evaluation", "data"},
    "matplotlib": {"training"},
    "yaml": {"config", "osm"},
    "openpyxl": {"data"},
    "chardet": {"data"},
    "pandas": {
        "api",
        "cli",
        "data",
        "evaluation",
        "index",
        "inspect",
        "label_source",
        "osm",
        "poi_source",
        "rerank",
        "training",
    },
}
HEAVY = {"torch", "transformers", "pandas", "numpy", "pyarrow", "scipy", "shapely", "osmium", "accelerate"}
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
    "openpyxl",
    "chardet",
}


def package_of(name: str) -> str:
    """Return the package, or the top-level module, that a dotted module name of m3gal_cli belongs to."""
    return name.split(".", maxsplit=1)[0] or "__init__"


def module_name(path: Path) -> str:
    """Return the dotted name of a file inside m3gal_cli; "" for the package itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {module_name(path): path for path in FILES}


def imports(source: str, path: Path) -> set[str]:
    """Return the full names that a file imports, also inside functions and for types, relative ones resolved."""
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def is_allowed(own: str, other: str) -> bool:
    """Return whether a module of package ``own`` may import package ``other``."""
    if other == "training" and own not in TRAINERS:
        return False
    return own == other or (other in ONLY.get(own, ORDER) and ORDER.index(own) < ORDER.index(other))


def violations(source: str, path: Path) -> list[str]:
    """Return the imports of a file that go upwards, or that take a library which belongs to other packages."""
    own, wrong = package_of(module_name(path)), []
    for name in sorted(imports(source, path)):
        top, _, rest = name.partition(".")
        if top == PACKAGE.name:
            other = package_of(rest)
            if not is_allowed(own, other if other in ORDER else "__init__"):
                wrong.append(name)
        elif own not in LIBRARIES.get(top, {own}):
            wrong.append(name)
    return wrong


def import_graph() -> dict[str, set[str]]:
    """Return, for each module of m3gal_cli, the other modules that it imports."""
    graph = {}
    for name, path in MODULES.items():
        own = {
            n.partition(".")[2] for n in imports(path.read_text(encoding="utf-8"), path) if n.startswith("m3gal_cli")
        }
        graph[name] = {n if n in MODULES else n.rpartition(".")[0] for n in own} - {name}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the shortest import cycle through each module that lies on one."""
    out = []
    for start in sorted(graph):
        paths, seen = [[start]], {start}
        while paths:
            path = paths.pop(0)
            following = graph.get(path[-1], set())
            if start in following:
                out.append([*path, start])
                break
            paths += [[*path, name] for name in sorted(following - seen)]
            seen |= following
    return out


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_go_downwards(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), path) == []


def test_every_package_has_a_place_in_the_order() -> None:
    assert {package_of(name) for name in MODULES} == set(ORDER)


def test_no_module_imports_itself_through_others() -> None:
    assert cycles(import_graph()) == []


def test_a_cycle_is_noticed() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"], ["c", "b", "c"]]


@pytest.mark.parametrize(
    ("file", "line", "name"),
    [
        ("core/losses.py", "from m3gal_cli.config.schema import Config", "m3gal_cli.config.schema.Config"),
        ("core/losses.py", "import m3gal_cli.data.tables", "m3gal_cli.data.tables"),
        ("core/losses.py", "from m3gal_cli import matching", "m3gal_cli.matching"),
        ("core/losses.py", "from ..training import trainer", "m3gal_cli.training.trainer"),
        ("osm/build.py", "from ..cli import console", "m3gal_cli.cli.console"),
        ("geo/coordinates.py", "def f():\n    from m3gal_cli.osm import build", "m3gal_cli.osm.build"),
        ("api.py", "from m3gal_cli.training.trainer import Trainer", "m3gal_cli.training.trainer.Trainer"),
        ("matching/matcher.py", "from m3gal_cli.training import trainer", "m3gal_cli.training.trainer"),
        ("training/trainer.py", "from rich.progress import Progress", "rich.progress.Progress"),
        ("evaluation/metrics.py", "import rich.table as t", "rich.table"),
        ("errors.py", "from . import core", "m3gal_cli.core"),
    ],
)
def test_an_upward_import_is_noticed(file: str, line: str, name: str) -> None:
    assert violations(line, PACKAGE / file) == [name]
    assert violations("from m3gal_cli.errors import InputError\nimport json, numpy", PACKAGE / file) == []


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Arguments of a function, an object's own not counted."""
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_and_functions_are_short(path: Path) -> None:
    """At most 400 lines a file, 60 a function and 8 arguments; the options of a command are not counted."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert [node.name for node in functions(path) if node.end_lineno - node.lineno >= 60] == []
    if package_of(module_name(path)) != "cli":
        assert [node.name for node in functions(path) if arguments(node) > 8] == []


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_benchmark_files_and_functions_are_short(path: Path) -> None:
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
