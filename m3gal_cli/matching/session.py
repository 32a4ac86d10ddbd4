"""Sessions: a checkpoint with its settings, from which evaluations, ``predict`` and the Python API load their parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3gal_cli.config.load import config_from_file, load_config
from m3gal_cli.config.paths import find_pois
from m3gal_cli.config.schema import Config, DataConfig
from m3gal_cli.core.checkpoint_layout import GRAPH_FILE, TEXT_FOLDER
from m3gal_cli.errors import InputError
from m3gal_cli.files import stem_of
from m3gal_cli.index.manifest import Manifest, read_manifest
from m3gal_cli.matching.index_model import check_index_folder, is_embedded, reference_to, referenced_checkpoint

if TYPE_CHECKING:  # torch is imported only when a model is loaded
    import pyarrow as pa
    import torch

    from m3gal_cli.core.checkpoint import Checkpoint
    from m3gal_cli.data.records import Record
    from m3gal_cli.encoders.fingerprint import Fingerprint
    from m3gal_cli.encoders.protocol import Encoder, Progress, QueryEncoder
    from m3gal_cli.encoders.torch_encoder import TorchEncoder
    from m3gal_cli.index.builder import Worker
    from m3gal_cli.index.index import Index
    from m3gal_cli.matching.matcher import Matcher
    from m3gal_cli.rerank.weights import RerankerWeights

PUBLISHED_PROFILE = "paper.yaml"
PACKAGED_PROFILE = "views.yaml"  # of the packaged model
DATA_SETTINGS = ("suffix", "test_suffix", "views", "train", "val", "test", "poi")  # settings that name data files
TABLE_SETTINGS = ("dir", "suffix", "poi")  # settings that name a POI table
Log = Callable[[str], None]


def no_log(text: str) -> None:
    """Ignore the message."""


@dataclass
class Session:
    """A checkpoint, its settings, and the run that it belongs to.

    Parts are loaded on first use. Queries over a built index need the query encoder only.
    """

    config: Config
    checkpoint: Path  # checkpoint directory or published file
    run: Path | None = None  # run folder; None for a checkpoint outside a run
    log: Log = field(default=no_log)  # called with messages
    model_of_index: bool = False  # the checkpoint is the one that the index in ``eval.index_dir`` refers to
    table_given: bool = False  # the POI table is named by an option, the API or the environment, not by the run

    @cached_property
    def device(self) -> torch.device:
        """The device of the model. The GPUs of a machine are divided among its processes by LOCAL_RANK."""
        import torch

        from m3gal_cli.core.devices import resolve_device

        device, local = resolve_device(self.config.device), os.environ.get("LOCAL_RANK", "")
        if str(device) == "cuda" and local.isdigit():
            return torch.device("cuda", int(local) % torch.cuda.device_count())
        return device

    @property
    def is_int8(self) -> bool:
        """Whether the model is the packaged one and runs in int8, without torch."""
        graph = self.checkpoint / TEXT_FOLDER / GRAPH_FILE
        on_cpu = self.config.device in ("auto", "cpu")
        return on_cpu and self.config.eval.encoder_runtime in ("auto", "onnx-int8") and graph.is_file()

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder with the whole model. Raises InputError."""
        if self.is_int8:
            from m3gal_cli.encoders.packaged_encoder import PackagedEncoder

            return PackagedEncoder(self.checkpoint)
        return self._load_encoder(("query", "poi", "location"))

    @cached_property
    def query_encoder(self) -> QueryEncoder:
        """The query encoder in the runtime of ``eval.encoder_runtime``. Raises InputError."""
        runtime = self.config.eval.encoder_runtime
        if self.is_int8:
            return self.encoder
        if runtime not in ("auto", "torch"):
            from m3gal_cli.encoders.onnx_export import FOLDERS, open_or_export

            int8 = runtime == "onnx-int8"
            folder = self.run or Path()
            if not os.access(folder, os.W_OK) and not (folder / FOLDERS[int8]).exists():
                folder = Path()  # a run or an index that others share: the export is in the working folder
            return open_or_export(lambda: self._open(("query",)), self.model_fingerprint(), folder, int8, self.log)
        return self.encoder if "encoder" in self.__dict__ else self._load_encoder(("query",))

    @cached_property
    def weights(self) -> RerankerWeights | None:
        """The weights of the reranker; None if the checkpoint has none or ``eval.rerank`` is off. Raises InputError."""
        from m3gal_cli.matching.saved_reranker import load_weights

        return load_weights(self.checkpoint, self.log) if self.config.eval.rerank else None

    def training_records(self, split: str = "train") -> list[Record]:
        """Return the records that the checkpoint was finetuned on, or the validation records (val) of its run.

        None are returned if the checkpoint belongs to no run, or, after a message, if the file is missing or changed.
        """
        from m3gal_cli.config.paths import find_records
        from m3gal_cli.core.checkpoint_layout import META_FILE
        from m3gal_cli.data.records import read_records
        from m3gal_cli.encoders.checkpoint_lookup import CONFIG_FILE
        from m3gal_cli.files import read_json

        if self.run is None:
            return []
        if split == "train" and (read_json(self.checkpoint / META_FILE) or {}).get("stage") != "finetune":
            return []
        data = config_from_file(self.run / CONFIG_FILE).data
        try:
            path = find_records(data, split)
            return [] if path is None else read_records(path, data.datum)
        except InputError as error:  # the file was moved or changed since the training
            self.log(f"the {split} records of the run cannot be compared with the queries ({error.what})")
            return []

    def model_fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the whole model, for exports and caches."""
        from m3gal_cli.encoders.model_loading import model_fingerprint

        return model_fingerprint(self.checkpoint, self.config)

    def text_fingerprint(self) -> Fingerprint:
        """Return the fingerprint of text vectors: the whole model and its numeric precision."""
        model = self.model_fingerprint()
        precision = "int8" if self.is_int8 else self._precision
        return replace(model, settings=model.settings | {"precision": precision})

    @property
    def texts_folder(self) -> Path:
        """The default folder of text vectors: in the run, or beside the published file; else in the working folder."""
        if self.is_int8:
            return Path("texts")
        return self.run / "texts" if self.run else self.checkpoint.with_name(f"{self.checkpoint.name}.texts")

    @property
    def poi_table(self) -> Path:
        """The path of the POI table. Raises InputError if there is none."""
        path = find_pois(self.config.data)
        if path is None:
            hint = "Give --pois FILE, or --data-dir with the folder that holds a POI table."
            raise InputError("no POI table", where=self.config.data.dir, hint=hint)
        return path

    @property
    def index_folder(self) -> Path:
        """The folder of the index: ``eval.index_dir``, else index/TABLE in the run. Raises InputError."""
        folder = self.config.eval.index_dir
        return Path(folder) if folder else (self.run or Path()) / "index" / stem_of(self.poi_table.absolute())

    def index(self, progress: Progress, worker: Worker | None = None) -> Index | None:
        """Open the index of the POI table; build it, or bring it up to date with the table, if necessary.

        A table that the user names undoes the updates by hand (``add``, ``delete``); the table of the run does not.
        If the model was taken from the index, the table of the run is ignored.

        Args:
            progress: Called with the number of POIs encoded and the total.
            worker: Rank of this process and number of processes; None: a single process.

        Returns:
            The index; None in all processes except the first.

        Raises:
            InputError: The table is missing, the table or the reranker weights are unreadable, the disk is full, or the
                index is of another model and cannot be built again.
        """
        from m3gal_cli.index.builder import IndexSources, Worker, open_or_build

        def read_pois() -> tuple[pa.Table, dict[str, Any]]:
            if not self.is_int8:
                _ = self.device  # a wrong device is refused before the table is read
            return self.read_pois(self.poi_table)

        _ = self.weights  # unreadable weights raise before the POIs are encoded
        folder, table = self.index_folder, self._table_fingerprint()
        if self.run is None and table is not None and not folder.exists():
            self.log(f"index: {folder} (built once; later calls use it and keep it current)")
        model, reference = self._model_for(table), reference_to(self.checkpoint, folder)
        sources = IndexSources(
            model,
            table,
            read_pois,
            load_encoder=lambda: self.encoder,
            table_name=None if table is None else self.poi_table.name,
            model_reference=reference,
            table_given=self.table_given,
            alone=self.is_alone,
        )
        return open_or_build(folder, sources, self.log, progress, worker or Worker())

    def read_pois(self, path: Path, with_ids: bool = False) -> tuple[pa.Table, dict[str, Any]]:
        """Return the POIs of a table in any format and its schema, read by the settings of ``data``.

        Args:
            path: The table, or an OSM extract.
            with_ids: Refuse a table without a column of ids, whose row numbers would be the ids.

        Raises:
            InputError: The table is unreadable, a row is invalid, or there are no ids.
        """
        import pyarrow as pa

        from m3gal_cli.poi_source import open_pois, poi_options

        with open_pois(path, poi_options(self.config.data, path), self.log) as stream:
            if with_ids and not stream.has_ids:
                hint = "Name it, e.g. --columns id=shop_no. Without ids, POIs of the index cannot be replaced."
                raise InputError("no column of ids", where=path, hint=hint)
            return pa.concat_tables(stream.batches()), stream.schema.to_json()

    def check_model(self, manifest: Manifest | None = None) -> None:
        """Raise InputError unless the index was built with this model.

        Args:
            manifest: Manifest of a snapshot; None: that of the current one.
        """
        manifest = manifest or read_manifest(self.index_folder)
        if manifest is None or not self.poi_model().matches(manifest.get("model")):
            what = f"the index was not built with the model {self.checkpoint}"
            hint = "Give the model of the index with --checkpoint, or build it again: m3gal index build --pois FILE."
            raise InputError(what, where=self.index_folder, hint=hint)

    def poi_model(self) -> Fingerprint:
        """Return the fingerprint of the parts of the model on which POI vectors depend.

        An embedded model is part of its index: its fingerprint is read from the manifest, because hashing its files
        takes longer than to answer a query.
        """
        from m3gal_cli.encoders.fingerprint import RecordedFingerprint
        from m3gal_cli.encoders.model_loading import poi_fingerprint

        manifest = read_manifest(self.index_folder)
        if manifest and self.model_of_index and is_embedded(self.checkpoint, self.index_folder):
            return RecordedFingerprint(recorded=manifest["model"])
        return poi_fingerprint(self.checkpoint, self.config)

    @property
    def is_alone(self) -> bool:
        """Whether the index is used without a table.

        An index in ``eval.index_dir`` may be of any table. Unless the user names a table, only the table of the run
        updates it, and only if the index is of a table with the same file name.
        """
        manifest = read_manifest(Path(self.config.eval.index_dir)) if self.config.eval.index_dir else None
        if manifest is None or self.table_given:
            return False
        table = find_pois(self.config.data)
        return self.model_of_index or (table is not None and table.name != manifest.get("table_name"))

    def _table_fingerprint(self) -> Fingerprint | None:
        """Return the fingerprint of the POI table; None if the index is used without a table. Raises InputError."""
        from m3gal_cli.encoders.fingerprint import Fingerprint
        from m3gal_cli.files import require_file
        from m3gal_cli.text.addresses import TEXT_VERSION

        data = self.config.data
        if self.is_alone:
            return None
        table = find_pois(data) if self.config.eval.index_dir else self.poi_table
        if table is None or not table.exists():  # a complete index suffices without its table
            return None
        settings = {"datum": data.datum, "columns": data.columns, "text_version": TEXT_VERSION}
        if table.is_dir():
            from m3gal_cli.data.formats import part_files  # imported here because it takes a tenth of a second

            if files := part_files(table):
                return Fingerprint(tuple(files), settings)
        return Fingerprint((require_file(table, "POI table"),), settings)

    def _model_for(self, table: Fingerprint | None) -> Fingerprint:
        """Return the fingerprint of the model.

        Raises:
            InputError: The index is of another model, and its POIs would be lost by building it again.
        """
        from m3gal_cli.encoders.fingerprint import RecordedFingerprint

        manifest, model = read_manifest(self.index_folder), self.poi_model()
        if manifest is None:
            return model
        if model.matches(manifest["model"]):
            return RecordedFingerprint(recorded=manifest["model"])  # the files of the model are not read twice
        if table is None:
            reason = "no POI table is given"
        elif manifest.get("edited") and not self.table_given:
            reason = "POIs were added to it or deleted from it by hand"
        else:
            return model
        what = "its model has changed since" if self.model_of_index else "it is of another model"
        hint = "Give --pois FILE to build it again from this table, or --checkpoint with the model of the index."
        raise InputError(f"{what}, and the index is not built again: {reason}", where=self.index_folder, hint=hint)

    def matcher(self, index: Index, progress: Progress) -> Matcher:
        """Return the matcher of an index, with search and reranker by the settings of ``eval``. Raises InputError."""
        from m3gal_cli.index.factory import SearchOptions, make_searcher
        from m3gal_cli.matching.matcher import Matcher

        settings, encoder = self.config.eval, self.query_encoder
        options = SearchOptions(settings.index, settings.recall, settings.uri)
        searcher = make_searcher(options, index, encoder, lambda: self.device, self.log, progress)
        return Matcher(index, encoder, searcher, None if self.weights is None else self.weights.reranker)

    def _open(self, parts: Sequence[str]) -> Checkpoint:
        from m3gal_cli.encoders.model_loading import open_checkpoint

        return open_checkpoint(self.checkpoint, self.config, parts=parts)

    def _load_encoder(self, parts: Sequence[str]) -> TorchEncoder:
        from m3gal_cli.core.devices import choose_attention
        from m3gal_cli.encoders.torch_encoder import TorchEncoder

        checkpoint = self._open(parts)
        choose_attention(checkpoint.model, self.device, self._precision)
        return TorchEncoder(checkpoint, self.device, self.config.eval.batch_tokens, self._precision)

    @property
    def _precision(self) -> str:
        from m3gal_cli.core.devices import resolve_precision

        return resolve_precision(self.config.eval.precision, self.device)


def open_session(
    checkpoint: Path | None,
    given: Mapping[str, Any],
    sets: Sequence[str] = (),
    profile: str | None = None,
    log: Log = no_log,
) -> Session:
    """Open a checkpoint with the settings of its run, overridden by the given ones.

    A checkpoint of the published code has no run: without a profile its settings are those of paper.yaml. Those of the
    packaged model are those of views.yaml.

    Args:
        checkpoint: Run, checkpoint directory or published file; None: the model of the index in ``eval.index_dir``,
            else the best checkpoint of the newest run, else the packaged model.
        given: Settings by dotted name.
        sets: Settings as ``KEY=VALUE``.
        profile: Name or path of a profile that replaces the settings of the run.
        log: Called with messages, such as which checkpoint is used.

    Raises:
        InputError: No such checkpoint, wrong settings, or the model of the index is missing.
    """
    from m3gal_cli.encoders.checkpoint_lookup import (
        CONFIG_FILE,
        PACKAGED,
        find_checkpoint,
        is_packaged,
        newest_run,
        run_folder_of,
    )

    given, settings = dict(given), load_config(profile, given, sets)
    index = None if settings.eval.index_dir is None else check_index_folder(Path(settings.eval.index_dir))
    own = referenced_checkpoint(index) if index and checkpoint is None else None
    if own is not None:
        checkpoint = own
        log(f"checkpoint: {'the packaged model' if str(own) == PACKAGED else own} (the model of the index)")
    elif checkpoint is None and (newest := newest_run(Path(settings.run.dir))) is not None:
        checkpoint = newest
        log(f"checkpoint: {checkpoint / 'best'} (the newest run's best)")
    elif checkpoint is None:
        checkpoint = Path(PACKAGED)
        log(f"checkpoint: the packaged model (no run in {Path(settings.run.dir)}/)")
    path = find_checkpoint(checkpoint)
    run = run_folder_of(path) if path.is_dir() else None
    own_profile = PACKAGED_PROFILE if is_packaged(path) else PUBLISHED_PROFILE
    base = profile or (str(run / CONFIG_FILE) if run else own_profile)
    if run and "data.dir" in given:  # another data folder replaces the files of the run
        sets = [*(f"data.{name}=null" for name in DATA_SETTINGS if f"data.{name}" not in given), *sets]
    if path.is_dir() and given.get("model.text_encoder"):
        log("--text-encoder is not needed: the checkpoint has its own")
    table_given = any(getattr(settings.data, name) != getattr(DataConfig(), name) for name in TABLE_SETTINGS)
    table_given |= any(given.get(f"data.{name}") is not None for name in TABLE_SETTINGS)
    return Session(load_config(base, given, sets), path, run, log, own is not None, table_given)
