"""``m3gal predict`` with a built index and an ONNX encoder imports no slow library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.cli import ENVIRONMENT, done, m3gal
from tests.helpers.sample_town import town_with_run
from tests.helpers.toy_models import reranker_weights

for name in ("onnx", "onnxruntime", "faiss"):
    pytest.importorskip(name, reason=f"NOT TESTED without torch: {name} is not installed")

pytestmark = pytest.mark.integration

SLOW = {"torch", "transformers", "scipy", "pandas", "accelerate", "shapely"}
PROGRAM = """
import sys
from m3gal_cli.cli.app import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = town_with_run(tmp_path_factory.mktemp("cold")) / "runs/only"
    reranker_weights(
        dense_score=1.0, query_coverage=0.5, name_coverage=1.0, neighbour_coverage=2.0, nearness_700m=1.0
    ).save(path / "best")
    return path


@pytest.mark.parametrize("index", ["exact", "ann"])
@pytest.mark.parametrize("area", [(), ("--within-km", 5)])
def test_predict_imports_neither_torch_nor_pandas(run: Path, index: str, area: tuple[object, ...]) -> None:
    line = json.dumps({"query": "cafe", "lng": 24.92, "lat": 60.11}) + "\n"
    given = ("predict", "-", "--checkpoint", run, "--index", index, "--encoder-runtime", "onnx", *area)
    wanted = done(m3gal(*given, stdin=line))
    command = [sys.executable, "-c", PROGRAM, *map(str, given)]
    found = subprocess.run(command, env=ENVIRONMENT, input=line, capture_output=True, text=True, check=True)
    assert found.stdout == wanted.out
    modules = set(found.stderr.split())
    assert "onnxruntime" in modules
    assert modules & SLOW == set()
