"""What the evaluations and ``predict`` share: the checkpoint, its data, the check of ``--fail-under``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import error, metrics_table, note, out, print_json
from m3gal_cli.cli.exit_codes import CHECK_FAILED
from m3gal_cli.errors import InputError

if TYPE_CHECKING:
    from m3gal_cli.config.schema import Config
    from m3gal_cli.data.records import Record
    from m3gal_cli.evaluation.result import Evaluation
    from m3gal_cli.retrieval.embed import Embedder
    from m3gal_cli.retrieval.identity import Identity

PUBLISHED_PROFILE = "paper.yaml"


KINDS = ("text", "location", "fused", "bm25")
NOT_THE_MODEL = {"trainer.pt", "README.md", "online.safetensors"}  # files of a checkpoint that scores do not need
RUN_FILES = ("suffix", "test_suffix", "views", "train", "val", "test", "poi")  # what a run's settings hold of its data


@dataclass
class Session:
    """A model ready to embed, the settings around it, where it came from and the run that this belongs to, if any."""

    config: Config
    embedder: Embedder
    checkpoint: Path
    run: Path | None = None

    def identity(self) -> Identity:
        """Of the model, for what is kept of it on the disk."""
        from dataclasses import asdict

        from m3gal_cli.retrieval.identity import Identity

        files = [self.checkpoint]
        also: dict[str, Any] = {"precision": self.embedder.precision}
        if self.checkpoint.is_dir():
            found = sorted(p for p in self.checkpoint.resolve().rglob("*") if p.is_file())
            files = [p for p in found if p.name not in NOT_THE_MODEL]
        else:  # weights alone: tokenizer and settings come from elsewhere
            also |= {"text_encoder": self.config.model.text_encoder, "settings": asdict(self.embedder.model.settings)}
            beside = Path(str(self.config.model.text_encoder))
            files += sorted(p for p in beside.glob("*") if p.is_file())
        return Identity(tuple(files), also)

    @property
    def beside(self) -> Path:
        """Where vectors of texts are kept if nobody says where: in the run, else beside the published file."""
        if self.run is not None:
            return self.run / "texts"
        return self.checkpoint.with_name(f"{self.checkpoint.name}.texts")


def open_session(values: dict[str, Any]) -> Session:
    """The checkpoint that was asked for (else the newest run's best) with its run's settings, options on top.

    A checkpoint of the published code has no run: without --config its settings are those of paper.yaml.
    """
    from m3gal_cli.config.load import load_config

    given, sets, profile = o.overrides(values), values["set_"] or (), values["config"]
    asked = load_config(profile, given, sets)
    o.quiet_libraries()
    from m3gal_cli.core.model import choose_attention, resolve_device, resolve_precision
    from m3gal_cli.retrieval.embed import Embedder
    from m3gal_cli.training.assemble import open_checkpoint
    from m3gal_cli.training.run import CONFIG_FILE, find_checkpoint, newest_run, run_of

    path = values["checkpoint"]
    if path is None:
        path = newest_run(Path(asked.run.dir))
        note(f"checkpoint: {path / 'best'} (the newest run's best)")
    found = find_checkpoint(path)
    run = run_of(found) if found.is_dir() else None
    base = profile or (str(run / CONFIG_FILE) if run else PUBLISHED_PROFILE)
    if run and "data.dir" in given:  # another folder: the run's own files are not meant
        sets = [*(f"data.{name}=null" for name in RUN_FILES if f"data.{name}" not in given), *sets]
    config = o.on_gpu(load_config(base, given, sets), values["gpu"])
    if found.is_dir() and values.get("text_encoder"):
        note("--text-encoder is not needed: the checkpoint has its own")
    checkpoint, device = open_checkpoint(found, config), resolve_device(config.device)
    precision = resolve_precision(config.eval.precision, device)
    choose_attention(checkpoint.model, device, precision)
    return Session(config, Embedder(checkpoint, device, config.eval.batch_tokens, precision), found, run)


def records_for(config: Config) -> tuple[list[Record], Path]:
    """The records to evaluate on: test, else val. Raises InputError where there is neither."""
    from m3gal_cli.config.paths import find_records
    from m3gal_cli.data.records import read_records

    path = find_records(config.data, "test") or find_records(config.data, "val")
    if path is None:
        hint = "Give --test-dataset-filepath FILE, or --data-dir with the folder that holds test_dataset*.jsonl."
        raise InputError("no records to evaluate on", where=config.data.dir, hint=hint)
    return read_records(path, config.data.datum), path


def poi_table_for(config: Config) -> Path:
    """The POI table. Raises InputError where there is none."""
    from m3gal_cli.config.paths import find_pois

    path = find_pois(config.data)
    if path is None:
        hint = "Give --poi-database-filepath FILE, or --data-dir with the folder that holds a POI table."
        raise InputError("no POI table", where=config.data.dir, hint=hint)
    return path


def parse_checks(texts: list[str] | None) -> list[tuple[str, str, float]]:
    """``recall@1=0.5`` or ``text.mrr@5=0.4`` as (kind, metric, value). Raises InputError, also for unknown names."""
    checks: list[tuple[str, str, float]] = []
    for text in texts or ():
        name, equals, number = text.partition("=")
        kind, dot, metric = name.strip().rpartition(".")
        try:
            value = float(number)
        except ValueError:
            equals = ""
        if not equals or not metric:
            hint = "Write METRIC=VALUE, e.g. recall@1=0.5 or text.mrr@5=0.4."
            raise InputError(f"--fail-under {text!r} is no check", hint=hint)
        checks.append((kind if dot else "fused", metric, value))
    check_known(checks)
    return checks


def check_known(checks: list[tuple[str, str, float]], candidates: int | None = None, bm25: bool = True) -> None:
    """Raise InputError where a check is of a score or metric that there will not be; None: as candidates may be."""
    if not checks:
        return
    from m3gal_cli.evaluation.metrics import metric_names

    kinds, names = [k for k in KINDS if bm25 or k != "bm25"], metric_names(candidates)
    for kind, metric, _ in checks:
        if kind not in kinds or metric not in names:
            hint = f"Scores: {', '.join(kinds)}; metrics: {', '.join(names)}."
            raise InputError(f"--fail-under: no metric {metric!r} of {kind!r}", hint=hint)


def report(
    evaluation: Evaluation, session: Session, title: str, as_json: bool, checks: list[tuple[str, str, float]]
) -> None:
    """Print the evaluation; exit 1 where a check fails."""
    if as_json:
        print_json(evaluation.to_json(str(session.checkpoint)))
    else:
        out().print(metrics_table(title, evaluation.metrics, evaluation.intervals))
        if any(row["n_queries"] < evaluation.n_queries for row in evaluation.slices.values()):
            out().print(metrics_table("fused, by where the query was typed", evaluation.slices, of="queries typed"))
    for line in evaluation.notes:
        note(line)
    failed = [(k, m, v) for k, m, v in checks if evaluation.metrics[k][m] < v]
    for kind, metric, value in failed:
        error(f"{kind} {metric} is {evaluation.metrics[kind][metric]:.4f}, under {value:g}")
    if failed:
        raise typer.Exit(CHECK_FAILED)
