"""m3gal itself: ``m3gal predict -`` with queries on stdin, one at a time."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from quality.m3gal_methods import m3gal, model_hash
from quality.sets import LabelledSet

from engines.engine import DEPTH, STOP_SECONDS, Answers, Engine, EngineError, OpenEngine, memory_mb, tail
from engines.measurement import RECALL_AT
from m3gal_cli.data.queries import Query
from m3gal_cli.data.records import write_records

ROOT = Path(__file__).resolve().parents[2]
CONFIDENCE = ("ece", "auc", "answered")  # names in the result of eval-retrieval


def open_with(model: str) -> Callable[[pd.DataFrame, Path], AbstractContextManager[OpenEngine]]:
    """Return the function that opens m3gal with a checkpoint; the index is built before it returns."""

    @contextmanager
    def open_m3gal(pois: pd.DataFrame, folder: Path) -> Iterator[OpenEngine]:
        pois.to_parquet(folder / "pois.parquet")
        rows = {str(poi_id): row for row, poi_id in enumerate(pois["poi_id"])}
        words = ["predict", "-", "--checkpoint", model, "--pois", folder / "pois.parquet"]
        words += ["--index-dir", folder / "index", "--top-k", DEPTH]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with (folder / "log.txt").open("wb") as log:
            process = psutil.Popen(
                [sys.executable, "-m", "m3gal_cli", *map(str, words)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},  # one core
            )
        try:

            def search(query: Query) -> Answers:
                where = {} if query.lng is None else {"lng": query.lng, "lat": query.lat}
                with suppress(BrokenPipeError):  # the process has ended
                    process.stdin.write(json.dumps({"query": query.text} | where).encode() + b"\n")
                    process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    raise EngineError(f"m3gal predict ended: {tail(folder / 'log.txt')}")
                return [(rows[str(match["poi_id"])], match["score"]) for match in json.loads(line)["matches"]]

            search(Query(0, "a"))  # waits for the index
            yield OpenEngine(importlib.metadata.version("m3gal"), search, lambda: memory_mb(process))
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                process.kill()
            process.stdout.close()

    return open_m3gal


def rank_with(model: str) -> Callable[[LabelledSet, Path], dict[str, float]]:
    """Return the function that ranks the candidates of each query with ``m3gal eval-rerank``."""

    def rank_candidates(labelled: LabelledSet, folder: Path) -> dict[str, float]:
        result = evaluate("eval-rerank", model, labelled, folder)["metrics"]
        metrics = result.get("reranked") or result["fused"]
        # No query has more than five candidates, so recall@20 is 1 and not in the result.
        return {f"recall@{k}": metrics.get(f"recall@{k}", 1.0) for k in RECALL_AT} | {"mrr@5": metrics["mrr@5"]}

    return rank_candidates


def evaluate(command: str, model: str, labelled: LabelledSet, folder: Path) -> dict[str, Any]:
    """Return the result of ``m3gal eval-retrieval`` or ``eval-rerank`` on a set. Raises InputError."""
    records, table, result = folder / "records.jsonl", folder / "pois.parquet", folder / f"{command}.json"
    write_records(labelled.records, records)
    words: list[Any] = [command, "--checkpoint", model, "--test", records, "--json", "--no-sparse"]
    if command == "eval-retrieval":
        labelled.pois.to_parquet(table)
        words += ["--pois", table]
    m3gal(*words, log=folder / "log.txt", output=result)
    return json.loads(result.read_text(encoding="utf-8"))


def confidence_with(model: str) -> Callable[[LabelledSet, Path], dict[str, float]]:
    """Return the function that measures the confidence of the answers with ``m3gal eval-retrieval``."""

    def confidence(labelled: LabelledSet, folder: Path) -> dict[str, float]:
        calibration = evaluate("eval-retrieval", model, labelled, folder).get("calibration", {})
        return {name: calibration[name] for name in CONFIDENCE if name in calibration}

    return confidence


def engine(model: str, confidence: bool = False) -> Engine:
    """Return m3gal with a checkpoint as an engine.

    Args:
        model: Checkpoint, run or ``packaged``.
        confidence: Whether to measure the confidence of the answers, too.
    """
    further = confidence_with(model) if confidence else None
    return Engine(
        "m3gal",
        "defaults",
        open_with(model),
        rank_candidates=rank_with(model),
        further=further,
        fingerprint=model_hash(model),
    )
