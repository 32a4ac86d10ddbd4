"""Pretraining and finetuning, from settings to a finished run: ``run_pretrain`` and ``run_finetune``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.config.paths import find_records, find_views
from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.model_card import TrainingData
from m3gal_cli.core.tokenizer import TextTokenizer, max_positions
from m3gal_cli.data.records import Record, read_records
from m3gal_cli.data.tables import parquet_twin, read_views
from m3gal_cli.encoders.checkpoint_lookup import PACKAGED
from m3gal_cli.encoders.model_loading import open_checkpoint
from m3gal_cli.errors import InputError
from m3gal_cli.training.initial_model import new_model
from m3gal_cli.training.label_data import records_of_labels
from m3gal_cli.training.listener import Listener
from m3gal_cli.training.model_soup import run_soup
from m3gal_cli.training.objectives.candidate_ranking import CandidateRanking
from m3gal_cli.training.objectives.momentum_contrast import MomentumContrast
from m3gal_cli.training.objectives.objective import Objective
from m3gal_cli.training.reranker_fit import save_prior
from m3gal_cli.training.run_directory import RunDirectory
from m3gal_cli.training.stage import Stage, StartOptions, run_stage
from m3gal_cli.training.trainer import Trainer

OSM_ATTRIBUTION = "© OpenStreetMap contributors, ODbL 1.0 (https://www.openstreetmap.org/copyright)"
_OSM_ID = re.compile(r"[nwr]\d+")


def run_pretrain(config: Config, options: StartOptions | None = None, listener: Listener | None = None) -> RunDirectory:
    """Pretrain on a view table, then fit the reranker on the validation records, if there are any.

    Raises:
        InputError: Bad settings or data.
        Interrupted: After a signal, once a checkpoint is saved.
    """
    config, options = _start(config, options or StartOptions())
    if config.optim.soup_size > 1:
        what = f"--soup-size {config.optim.soup_size}: only finetuning can average several trainings"
        raise InputError(what, hint="Use --set optim.soup_size=1.")
    path = find_views(config.data)
    views = with_place_ids(read_views(path, config.data.datum), path)
    _check_batch_size(config, len(views), path)
    texts = pd.concat([views["address1"], views["address2"]]).tolist()
    data = training_data_of(views["poi_id"]) if "poi_id" in views.columns else TrainingData()

    def make_objective(checkpoint: Checkpoint, own: Config) -> Objective:
        return MomentumContrast(checkpoint.model, _tokenizer(checkpoint), views, own)

    open_model = _open_model(config, views[["lng", "lat"]].to_numpy(np.float64), texts, data)
    stage = Stage("pretrain", open_model, make_objective, _records(config, "val") or [])
    return run_stage(stage, config, options, listener or Listener())


def run_finetune(config: Config, options: StartOptions | None = None, listener: Listener | None = None) -> RunDirectory:
    """Finetune on candidate records, then fit the reranker on the validation records, if there are any.

    With ``optim.soup_size`` above 1 the model has the mean weights of several trainings (see model_soup).

    Raises:
        InputError: Bad settings or data.
        Interrupted: After a signal, once a checkpoint is saved.
    """
    config, options = _start(config, options or StartOptions())
    listener = listener or Listener()
    source = config.data.labels
    if source is not None:
        config, made = records_of_labels(config, options, listener)
        records, validation = made.get("train"), made.get("val", [])
    else:
        records, validation = _records(config, "train"), _records(config, "val") or []
    if records is None:
        hint = "Give --labels FILE, or make records with m3gal data labels, m3gal data geotes or m3gal data osm."
        raise InputError("no candidate records (train_dataset_use_gis*)", where=source or config.data.dir, hint=hint)
    _check_batch_size(config, len(records), Path(source) if source else find_records(config.data, "train"))
    lng_lat = np.array([(p.lng, p.lat) for r in records for p in r.passages])
    texts = [text for r in records for text in (r.query, *(p.text for p in r.passages))]
    data = training_data_of(p.docid for r in records for p in r.passages)

    def make_objective(checkpoint: Checkpoint, own: Config) -> Objective:
        return CandidateRanking(checkpoint.model, _tokenizer(checkpoint), records, own)

    def before_training(trainer: Trainer) -> None:
        save_prior(trainer, records, validation, options.progress)

    open_model, warnings = _open_model(config, lng_lat, texts, data), leakage_warnings(records, validation)
    stage = Stage("finetune", open_model, make_objective, validation, before_training, warnings)
    if config.optim.soup_size == 1 or config.optim.max_steps == 0 or options.dry_run is not None:
        return run_stage(stage, config, options, listener)
    return run_soup(stage, config, options, listener)


def _start(config: Config, options: StartOptions) -> tuple[Config, StartOptions]:
    """Return settings and options in which the init ``PACKAGED`` is the default start, with a new location encoder."""
    if options.init != PACKAGED:
        return config, options
    model = config.model.model_copy(update={"text_encoder": None})
    return config.model_copy(update={"model": model}), replace(options, init=None)


def _records(config: Config, split: str) -> list[Record] | None:
    path = find_records(config.data, split)
    return None if path is None else read_records(path, config.data.datum)


def leakage_warnings(records: Sequence[Record], validation: Sequence[Record]) -> list[str]:
    """Return a warning if validation queries, with text and a gold POI, are among the training records."""
    known = {(r.query.strip(), key) for r in records for key in r.gold}
    leaked = sum(any((r.query.strip(), key) in known for key in r.gold) for r in validation)
    if not leaked:
        return []
    text = f"{leaked:,} of {len(validation):,} validation queries, with their gold POI, are training queries, too: "
    return [text + "the validation metrics and the reranker weights will be too good. Use a separate validation file."]


def _open_model(
    config: Config, lng_lat: NDArray[np.float64], texts: Sequence[str], data: TrainingData
) -> Callable[[Path | None], Checkpoint]:
    """Return the function that opens a checkpoint, or builds a new model from the training table."""

    def open_model(source: Path | None) -> Checkpoint:
        if source is None:
            checkpoint = new_model(config, lng_lat[:, 0], lng_lat[:, 1], texts)
        else:
            checkpoint = open_checkpoint(source, config, with_trainer=True)
        checkpoint.data = checkpoint.data.joined(data)
        return checkpoint

    return open_model


def _tokenizer(checkpoint: Checkpoint) -> TextTokenizer:
    positions = max_positions(checkpoint.model.encoder_q.text_encoder.config)
    return TextTokenizer(checkpoint.tokenizer, checkpoint.model.settings, positions)


def with_place_ids(views: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add the columns poi_id and group from the .parquet twin of a .csv file, if the twin has the same rows."""
    twin = parquet_twin(path)
    if "poi_id" in views.columns or path.suffix != ".csv" or not twin.is_file():
        return views
    extra = pd.read_parquet(twin)
    same = len(extra) == len(views) and "poi_id" in extra.columns
    if same and (extra["address1"].to_numpy() == views["address1"].to_numpy()).all():
        return views.assign(**{name: extra[name].to_numpy() for name in ("poi_id", "group") if name in extra.columns})
    return views


def training_data_of(place_ids: Iterable[object]) -> TrainingData:
    """Return the credit of OpenStreetMap if all place ids are those of its elements ("n1", "w1", "r1")."""
    ids = {str(place) for place in place_ids}
    is_osm = bool(ids) and all(_OSM_ID.fullmatch(place) for place in ids)
    return TrainingData((OSM_ATTRIBUTION,)) if is_osm else TrainingData()


def _check_batch_size(config: Config, count: int, path: Path | None) -> None:
    if config.optim.batch_size > count:
        what = f"--batch-size {config.optim.batch_size} is larger than the data ({count} rows)"
        raise InputError(what, where=path, hint=f"Give --batch-size {count} or less.")
