"""The first answer of ``m3gal predict`` does not wait for what it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.cli import ENVIRONMENT, done, m3gal
from tests.helpers.sample_town import write_town
from tests.helpers.toy_models import weights_of

for name in ("onnx", "onnxruntime", "faiss"):
    pytest.importorskip(name, reason=f"NOT TESTED without torch: {name} is not installed")

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
    folder = tmp_path_factory.mktemp("cold")
    runs = ("--runs-dir", folder / "runs", "--output-name", "only", "--max-steps", 1)
    path = m3gal("pretrain", "--config", write_town(folder / "data"), *runs).run.resolve()
    weights_of(dense=1.0, coverage=0.5, name=1.0, reference=2.0, near_700m=1.0, near_2500m=1.0).save(
        path / "best"
    )  # the hybrid score needs none of them either
    return path


@pytest.mark.parametrize("index", ["exact", "ann"])
@pytest.mark.parametrize("area", [(), ("--within-km", 5)])
def test_neither_torch_nor_pandas_is_imported(run: Path, index: str, area: tuple[object, ...]) -> None:
    """Once the index and the encoder are made; the answer is that of a process which has torch."""
    line = json.dumps({"query": "cafe", "lng": 24.92, "lat": 60.11}) + "\n"
    given = ("predict", "-", "--checkpoint", run, "--index", index, "--encoder-runtime", "onnx", *area)
    wanted = done(m3gal(*given, stdin=line))
    command = [sys.executable, "-c", PROGRAM, *map(str, given)]
    found = subprocess.run(command, env=ENVIRONMENT, input=line, capture_output=True, text=True, check=True)
    assert found.stdout == wanted.out
    modules = set(found.stderr.split())
    assert "onnxruntime" in modules
    assert modules & SLOW == set()
