"""Trainings of m3gal as methods: a profile, ``--set`` texts, and the initial weights."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from m3gal_cli.cli.exit_codes import INTERRUPTED
from m3gal_cli.config.load import load_config
from m3gal_cli.encoders.checkpoint_lookup import find_checkpoint
from m3gal_cli.errors import InputError
from quality.evaluation_set import ScoreResult, median_latency_ms
from quality.folds import Fold, write_fold
from quality.interface import Job, Options, Result, short_hash

NO_LOCATION = "without query location"
VIEWS_PROFILE = "views.yaml"
IRRELEVANT = ("data", "run", "device", "seed")  # settings that do not change the method
COMMON_SETTINGS = ("run.tensorboard=false",)
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Recipe:
    """A training of m3gal.

    Attributes:
        name: Name of the method.
        profile: Profile of ``m3gal finetune --config``.
        sets: ``--set`` texts.
        views: Profile of a pretraining on map views, whose weights are the start; None: start from the encoder.
        curve: Whether to train with fewer labelled queries, too.
        few_labels: Further ``--set`` texts for fewer labelled queries.
    """

    name: str
    profile: str
    sets: tuple[str, ...] = ()
    views: str | None = None
    curve: bool = False
    few_labels: tuple[str, ...] = ()

    def settings(self, options: Options) -> dict[str, Any]:
        """Return the settings that the result depends on: those that differ from the defaults, encoder and start."""
        settings: dict[str, Any] = {"encoder": Path(options.encoder).name} | relevant_settings(self.profile, self.sets)
        if self.views is not None:
            settings["start"] = start_settings(self.views, options)
        return settings | ({"few": self.few_labels} if self.few_labels else {})

    def run(self, job: Job) -> Result:
        """Train and evaluate; with 0 labels evaluate the initial model."""
        start = pretrained_run(self.views, job.options) if self.views is not None else None
        run = job.folder / "run"
        data = write_fold(job.fold, job.folder / "data")
        finetune(self, job, run, data, start)
        rows = evaluate_run(run, job)
        before = training_minutes(start) if start is not None else 0.0
        return Result(rows, 0.0 if job.labels == 0 else training_minutes(run), before)


def relevant_settings(profile: str, sets: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a profile that differ from the defaults and change the trained model."""
    settings: dict[str, Any] = load_config(profile, sets=sets, environ={}).model_dump(exclude_defaults=True)
    return {name: value for name, value in settings.items() if name not in IRRELEVANT}


def start_settings(profile: str, options: Options) -> dict[str, Any]:
    """Return the settings of the pretraining: a hash of the given run's, or those of a new one."""
    if options.pretrained is not None:
        config = options.pretrained / "config.yaml"
        text = config.read_text(encoding="utf-8") if config.is_file() else str(options.pretrained)
        return {"given": short_hash(text)}
    extract = None if options.extract is None else options.extract.name
    return {"extract": extract, "encoder": Path(options.encoder).name} | relevant_settings(profile, ())


def pretrained_run(profile: str, options: Options) -> Path:
    """Return the run of ``--pretrained``, else a run pretrained on the views of ``--extract``, which is made only once.

    Raises:
        InputError: Both options are missing, or the pretraining failed.
    """
    if options.pretrained is not None:
        return options.pretrained
    if options.extract is None or not options.extract.is_file():
        hint = "Give --pretrained RUN, or --extract FILE.osm.pbf."
        raise InputError("no map extract to pretrain on", where=options.extract, hint=hint)
    folder = options.folder / "pretrained" / short_hash(start_settings(profile, options))
    run, log = folder / "run", folder / "log.txt"
    if not (folder / "done").is_file():
        data = folder / "views"
        if not (folder / "views.done").is_file():
            m3gal("data", "osm", options.extract, "--output", data, log=log)
            (folder / "views.done").touch()
        words = ["--config", profile, "--text-encoder", options.encoder, "--data-dir", data]
        m3gal("pretrain", *words, *set_options(COMMON_SETTINGS), *run_options(run), log=log)
        (folder / "done").touch()
    return run


def finetune(recipe: Recipe, job: Job, run: Path, data: Path, start: Path | None) -> None:
    """Run ``m3gal finetune`` as a process, or resume a killed one. Raises InputError if it fails."""
    few = recipe.few_labels if job.labels else ()
    words: list[Any] = ["--config", recipe.profile, "--data-dir", data, "--seed", job.seed]
    words += ["--text-encoder", job.options.encoder, *set_options([*recipe.sets, *few, *COMMON_SETTINGS])]
    words += ["--max-steps", 0] if job.labels == 0 else []
    words += run_options(run)
    if start is not None and "--resume" not in words:
        words += ["--init", start]
    m3gal("finetune", *words, log=job.folder / "log.txt")


def run_options(run: Path) -> list[Any]:
    """Return the options for the run's folder, with ``--resume`` if it holds a saved state."""
    saved = any((path / "last").exists() for path in (run, *run.glob("members/*")))
    return ["--runs-dir", run.parent, "--run-name", run.name, *(["--resume", "auto"] if saved else [])]


def set_options(sets: Sequence[str]) -> list[str]:
    """Return the texts, each behind ``--set``."""
    return [word for text in sets for word in ("--set", text)]


def m3gal(*words: Any, log: Path, output: Path | None = None) -> None:
    """Run an m3gal command as a process.

    Args:
        words: The command and its options.
        log: File to which messages are appended.
        output: File for stdout; None: it is appended to ``log``, too.

    Raises:
        InputError: The command failed; the message holds the end of its output.
        KeyboardInterrupt: The command was interrupted.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "m3gal_cli", *map(str, words)]
    with log.open("ab") as messages, (output or log).open("ab" if output is None else "wb") as out:
        done = subprocess.run(command, stdout=out, stderr=messages, env=os.environ | {"PYTHONPATH": path}, check=False)
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode:
        last = " / ".join(log.read_text(encoding="utf-8").split("\n")[-4:]).strip(" /")
        message = f"m3gal {words[0]} ended with exit code {done.returncode}: {last[-300:]}"
        raise InputError(message, where=log, hint="Read the log.")


def training_minutes(run: Path) -> float:
    """Return the minutes of all starts of a run and of the trainings of its soup; 0 if unknown."""
    paths = [run / "environment.json", *run.glob("members/*/environment.json")]
    starts = [s for p in paths if p.is_file() for s in json.loads(p.read_text(encoding="utf-8"))["starts"]]
    return sum(float(start["seconds"]) for start in starts) / 60


def evaluate_run(run: Path, job: Job) -> dict[str, ScoreResult]:
    """Return the results of both evaluations, with and without the query locations."""
    from m3gal_cli.evaluation.rerank import evaluate_rerank
    from m3gal_cli.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
    from m3gal_cli.matching.session import open_session

    session = open_session(run, {})
    cache_poi_texts(session.encoder)
    options = RetrievalOptions(depth=1, reranker=session.weights)
    ms = predict_latency_ms(session, job) if job.timed else None
    rows: dict[str, ScoreResult] = {}
    for suffix, fold in (("", job.fold), (f", {NO_LOCATION}", without_locations(job.fold))):
        retrieval = evaluate_retrieval(fold.test, fold.pois, session.encoder, options)
        rerank = evaluate_rerank(fold.test, session.encoder, session.config.data.max_chars, reranker=session.weights)
        best: dict[str, list[int]] = {}
        if retrieval.top is not None:
            best["fused"] = [int(row[0]) for row, _ in retrieval.top.matches]
            if retrieval.top.reranked_best is not None:
                best["reranked"] = retrieval.top.reranked_best.tolist()
        for kind, ranks in retrieval.ranks.items():
            own = rerank.ranks.get(kind)
            candidate_ranks = None if own is None else own.tolist()
            rows[kind + suffix] = ScoreResult(ranks.tolist(), candidate_ranks, best.get(kind), ms)
    return rows


def without_locations(fold: Fold) -> Fold:
    """Return the fold without the locations of its test queries."""
    return replace(fold, test=[replace(r, lng=None, lat=None) for r in fold.test])


def cache_poi_texts(encoder: Any) -> None:
    """Make an encoder encode each POI text once, as both evaluations encode the same texts twice."""
    encode = encoder.encode_poi_texts
    known: dict[str, Any] = {}

    def encode_poi_texts(texts: Sequence[str], progress: Any = None) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, encode(new, progress), strict=True))
        return np.stack([known[text] for text in texts])

    encoder.encode_poi_texts = encode_poi_texts


def predict_latency_ms(session: Any, job: Job) -> float:
    """Return the median milliseconds per query of ``predict``: encoding, search and reranking."""
    from m3gal_cli.data.queries import Query

    index = session.index(lambda done, total: None)
    matcher = session.matcher(index, lambda done, total: None)
    queries = [Query(i, r.query, r.lng, r.lat) for i, r in enumerate(job.fold.test)]
    return median_latency_ms(lambda i: matcher.answer([queries[i]], 5), len(queries))


def delete_run(folder: Path) -> None:
    """Delete the files of a run except its log."""
    for path in (folder / "run", folder / "data"):
        if path.is_dir():
            shutil.rmtree(path)


def model_hash(model: str) -> str:
    """Return a hash of the weights and settings of a checkpoint, a run or the packaged model. Raises InputError."""
    digest, folder = hashlib.sha256(), find_checkpoint(Path(model))
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors"):
            digest.update(f"{path.relative_to(folder)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
