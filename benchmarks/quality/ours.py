"""Our trainings: a profile, what is set on top of it, and the weights it starts from; each is a row of ``RECIPES``."""

from __future__ import annotations

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
from m3gal_cli.data.records import Record
from m3gal_cli.errors import InputError
from quality.board import Row, milliseconds
from quality.folds import Fold, write_fold
from quality.job import Job, Options, Result, short_hash

PLACELESS = "place of the query unknown"
VIEWS_PROFILE = "views.yaml"
NOT_RESULTS = ("data", "run", "device")  # sections of the settings that do not change what is learned
QUIET = ("run.tensorboard=false",)
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Recipe:
    """A training of ours.

    Args:
        name: of the method.
        profile: of ``m3gal finetune --config``.
        sets: ``--set``.
        views: start from a pretraining on the views of a map, by this profile; None: from the encoder.
        curve: also with fewer labelled queries.
        few: further ``--set`` then.
    """

    name: str
    profile: str
    sets: tuple[str, ...] = ()
    views: str | None = None
    curve: bool = False
    few: tuple[str, ...] = ()

    def settings(self, options: Options) -> dict[str, Any]:
        """What its result depends on: settings that differ from the defaults, encoder, start."""
        own: dict[str, Any] = {"encoder": Path(options.encoder).name} | learned_settings(self.profile, self.sets)
        if self.views is not None:
            own["start"] = start_settings(self.views, options)
        return own | ({"few": self.few} if self.few else {})

    def run(self, job: Job) -> Result:
        """Train (or take the model as it starts, for no label) and evaluate."""
        start = pretrained_run(self.views, job.options) if self.views is not None else None
        run = job.folder / "run"
        data = write_fold(job.fold, job.folder / "data")
        finetune(self, job, run, data, start)
        rows = evaluated(run, job)
        before = minutes_of(start) if start is not None else 0.0
        return Result(rows, 0.0 if job.labels == 0 else minutes_of(run), before)


def learned_settings(profile: str, sets: Sequence[str]) -> dict[str, Any]:
    """The settings of a profile that differ from the defaults and matter to what is learned."""
    config = load_config(profile, sets=sets, environ={})
    found: dict[str, Any] = config.model_dump(exclude_defaults=True)
    return {name: value for name, value in found.items() if name not in NOT_RESULTS and name != "seed"}


def start_settings(profile: str, options: Options) -> dict[str, Any]:
    """What a pretrained start depends on: the run that is given, or how it will be made."""
    if options.pretrained is not None:
        environment = options.pretrained / "config.yaml"
        text = environment.read_text(encoding="utf-8") if environment.is_file() else str(options.pretrained)
        return {"given": short_hash(text)}
    extract = None if options.extract is None else options.extract.name
    return {"extract": extract, "encoder": Path(options.encoder).name} | learned_settings(profile, ())


def pretrained_run(profile: str, options: Options) -> Path:
    """The run that ``--pretrained`` names, else one pretrained on the views of the extract, made once.

    Raises:
        InputError: there is neither, or the pretraining failed.
    """
    if options.pretrained is not None:
        return options.pretrained
    if options.extract is None or not options.extract.is_file():
        hint = "Give --pretrained RUN, or --extract FILE.osm.pbf."
        raise InputError("no map extract to pretrain on", where=options.extract, hint=hint)
    folder = options.folder / "pretrained" / short_hash(start_settings(profile, options))
    run = folder / "run"
    if not (folder / "done").is_file():
        data = folder / "views"
        if not (folder / "views.done").is_file():
            m3gal("data", "osm", options.extract, "--output", data, log=folder / "log.txt")
            (folder / "views.done").touch()
        asked = ["--config", profile, "--text-encoder", options.encoder, "--data-dir", data, *sets_of(QUIET)]
        m3gal("pretrain", *asked, *run_options(run), log=folder / "log.txt")
        (folder / "done").touch()
    return run


def finetune(recipe: Recipe, job: Job, run: Path, data: Path, start: Path | None) -> None:
    """``m3gal finetune`` in a process of its own; one that was killed goes on. Raises InputError where it fails."""
    asked: list[Any] = ["--config", recipe.profile, "--data-dir", data, "--seed", job.seed]
    few = recipe.few if job.labels else ()
    asked += ["--text-encoder", job.options.encoder, *sets_of([*recipe.sets, *few, *QUIET])]
    asked += ["--max-steps", 0] if job.labels == 0 else []
    own = run_options(run)
    if start is not None and "--resume" not in own:
        own += ["--init", start]
    m3gal("finetune", *asked, *own, log=job.folder / "log.txt")


def run_options(run: Path) -> list[Any]:
    """Where a run is kept, and that it goes on where it stopped."""
    saved = any((path / "last").exists() for path in (run, *run.glob("members/*")))  # before it was stopped
    again = ["--resume", "auto"] if saved else []
    return ["--runs-dir", run.parent, "--output-name", run.name, *again]


def sets_of(sets: Sequence[str]) -> list[str]:
    """``--set`` before each."""
    return [word for text in sets for word in ("--set", text)]


def m3gal(*words: Any, log: Path) -> None:
    """Run a command of ours; what it says goes to ``log``.

    Raises:
        InputError: with its last words where it fails.
        KeyboardInterrupt: it was stopped by one.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "m3gal_cli", *map(str, words)]
    with log.open("a", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=file, env=os.environ | {"PYTHONPATH": path}, check=False)
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode:
        last = " / ".join(log.read_text(encoding="utf-8").split("\n")[-4:]).strip(" /")
        raise InputError(f"m3gal {words[0]} ended with {done.returncode}: {last[-300:]}", where=log)


def minutes_of(run: Path) -> float:
    """Minutes of all starts of a run, its members' too. 0 where that is not known."""
    paths = [run / "environment.json", *run.glob("members/*/environment.json")]
    starts = [s for p in paths if p.is_file() for s in json.loads(p.read_text(encoding="utf-8"))["starts"]]
    return sum(float(start["seconds"]) for start in starts) / 60


def evaluated(run: Path, job: Job) -> dict[str, Row]:
    """Every row of both evaluations, with the places where queries were typed and without them."""
    from m3gal_cli.evaluation.rerank import evaluate_rerank
    from m3gal_cli.evaluation.retrieval import Options as Asked
    from m3gal_cli.evaluation.retrieval import evaluate_retrieval
    from m3gal_cli.matching.session import open_session

    session = open_session(run, {})
    remember_texts(session.encoder)
    asked, cut = Asked(depth=1, reranker=session.weights), session.config.data.max_chars
    ms = predict_ms(session, job) if job.timed else None
    rows: dict[str, Row] = {}
    for suffix, fold in (("", job.fold), (f", {PLACELESS}", placeless(job.fold))):
        whole = evaluate_retrieval(fold.test, fold.pois, session.encoder, asked)
        few = evaluate_rerank(fold.test, session.encoder, cut, reranker=session.weights)
        first = {"fused": [int(row[0]) for row, _ in whole.found.matches]} if whole.found is not None else {}
        if whole.found is not None and whole.found.reranker is not None:
            first["reranked"] = whole.found.reranker.tolist()
        for kind, ranks in whole.ranks.items():
            own = few.ranks.get(kind)
            rows[kind + suffix] = Row(ranks.tolist(), None if own is None else own.tolist(), first.get(kind), ms)
    return rows


def placeless(fold: Fold) -> Fold:
    """The fold with test queries that do not say where they were typed."""
    hidden: list[Record] = [replace(r, lng=None, lat=None) for r in fold.test]
    return replace(fold, test=hidden)


def remember_texts(encoder: Any) -> None:
    """Let an embedder encode every POI text once: both evaluations, with and without places, ask for the same ones."""
    encode = encoder.poi_texts
    kept: dict[str, Any] = {}

    def poi_texts(texts: Sequence[str], progress: Any = None) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in kept]
        kept.update(zip(new, encode(new, progress), strict=True))
        return np.stack([kept[text] for text in texts])

    encoder.poi_texts = poi_texts


def predict_ms(session: Any, job: Job) -> float:
    """What ``predict`` takes for one query: the encoder, the search, and whatever it does by default after it."""
    from m3gal_cli.data.queries import Query

    index = session.index(lambda done, total: None)
    matcher = session.matcher(index, lambda done, total: None)
    queries = [Query(i, r.query, r.lng, r.lat) for i, r in enumerate(job.fold.test)]
    return milliseconds(lambda i: matcher.answer([queries[i]], 5), len(queries))


def clean(folder: Path) -> None:
    """Delete what a run wrote besides its log."""
    for path in (folder / "run", folder / "data"):
        if path.is_dir():
            shutil.rmtree(path)
