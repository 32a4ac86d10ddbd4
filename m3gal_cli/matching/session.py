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
from m3gal_cli.config.schema import Config
from m3gal_cli.errors import InputError

if TYPE_CHECKING:  # torch is imported only when a model is loaded
    import torch

    from m3gal_cli.core.checkpoint import Checkpoint
    from m3gal_cli.data.records import Record
    from m3gal_cli.encoders.fingerprint import Fingerprint
    from m3gal_cli.encoders.protocol import Progress, QueryEncoder
    from m3gal_cli.encoders.torch_encoder import TorchEncoder
    from m3gal_cli.index.builder import Worker
    from m3gal_cli.index.index import Index
    from m3gal_cli.matching.matcher import Matcher
    from m3gal_cli.rerank.weights import RerankerWeights

PUBLISHED_PROFILE = "paper.yaml"
DATA_SETTINGS = ("suffix", "test_suffix", "views", "train", "val", "test", "poi")  # settings that name data files
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

    @cached_property
    def device(self) -> torch.device:
        """The device of the model. The GPUs of a machine are divided among its processes by LOCAL_RANK."""
        import torch

        from m3gal_cli.core.devices import resolve_device

        device, local = resolve_device(self.config.device), os.environ.get("LOCAL_RANK", "")
        if str(device) == "cuda" and local.isdigit():
            return torch.device("cuda", int(local) % torch.cuda.device_count())
        return device

    @cached_property
    def encoder(self) -> TorchEncoder:
        """The encoder with the whole model. Raises InputError."""
        return self._load_encoder(("query", "poi", "location"))

    @cached_property
    def query_encoder(self) -> QueryEncoder:
        """The query encoder in the runtime of ``eval.encoder_runtime``. Raises InputError."""
        runtime = self.config.eval.encoder_runtime
        if runtime != "torch":
            from m3gal_cli.encoders.onnx_export import open_or_export

            folder, int8 = self.run or Path(), runtime == "onnx-int8"
            return open_or_export(lambda: self._open(("query",)), self.model_fingerprint(), folder, int8, self.log)
        return self.encoder if "encoder" in self.__dict__ else self._load_encoder(("query",))

    @cached_property
    def weights(self) -> RerankerWeights | None:
        """The weights of the reranker; None if the checkpoint has none or ``eval.rerank`` is off. Raises InputError."""
        from m3gal_cli.rerank.weights import RerankerWeights

        return RerankerWeights.load(self.checkpoint, log=self.log) if self.config.eval.rerank else None

    def training_records(self) -> list[Record]:
        """Return the records that the checkpoint was finetuned on; none if the run or its file is missing."""
        from m3gal_cli.config.paths import find_records
        from m3gal_cli.core.checkpoint_layout import META_FILE
        from m3gal_cli.data.records import read_records
        from m3gal_cli.encoders.checkpoint_lookup import CONFIG_FILE
        from m3gal_cli.files import read_json

        if self.run is None or (read_json(self.checkpoint / META_FILE) or {}).get("stage") != "finetune":
            return []
        data = config_from_file(self.run / CONFIG_FILE).data
        try:
            path = find_records(data, "train")
            return [] if path is None else read_records(path, data.datum)
        except InputError:  # the file was moved or changed since the training
            return []

    def model_fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the whole model, for exports and caches."""
        from m3gal_cli.encoders.model_loading import model_fingerprint

        return model_fingerprint(self.checkpoint, self.config)

    def text_fingerprint(self) -> Fingerprint:
        """Return the fingerprint of text vectors: the whole model and its numeric precision."""
        model = self.model_fingerprint()
        return replace(model, settings=model.settings | {"precision": self._precision})

    @property
    def texts_folder(self) -> Path:
        """The default folder of text vectors: in the run, or beside the published file."""
        return self.run / "texts" if self.run else self.checkpoint.with_name(f"{self.checkpoint.name}.texts")

    @property
    def poi_table(self) -> Path:
        """The path of the POI table. Raises InputError if there is none."""
        path = find_pois(self.config.data)
        if path is None:
            hint = "Give --pois FILE, or --data-dir with the folder that holds a POI table."
            raise InputError("no POI table", where=self.config.data.dir, hint=hint)
        return path

    def index(self, progress: Progress, worker: Worker | None = None) -> Index | None:
        """Open the index of the POI table; build it if it is missing or of another model or table.

        Args:
            progress: Called with the number of POIs encoded and the total.
            worker: Rank of this process and the world size; None: a single process.

        Returns:
            The index; None in all processes except the first.

        Raises:
            InputError: The table is missing, the table or the reranker weights are unreadable, or the disk is full.
        """
        from m3gal_cli.encoders.fingerprint import Fingerprint
        from m3gal_cli.encoders.model_loading import poi_fingerprint
        from m3gal_cli.files import require_file, stem_of
        from m3gal_cli.index.builder import IndexSources, Worker, open_or_build

        def read_table() -> Any:
            from m3gal_cli.data.tables import read_pois

            return read_pois(require_file(self.poi_table, "POI table"), datum)

        _ = self.weights  # unreadable weights raise before the POIs are encoded
        datum, folder = self.config.data.datum, self.config.eval.index_dir
        table = find_pois(self.config.data) if folder else self.poi_table
        fingerprint = None
        if table is not None and table.exists():  # a complete index suffices without its table
            fingerprint = Fingerprint((require_file(table, "POI table"),), {"datum": datum})
        model = poi_fingerprint(self.checkpoint, self.config)
        sources = IndexSources(model, fingerprint, read_table, lambda: self.encoder)
        path = Path(folder or (self.run or Path()) / "index" / stem_of(self.poi_table))
        return open_or_build(path, sources, self.log, progress, worker or Worker())

    def matcher(self, index: Index, progress: Progress) -> Matcher:
        """Return the matcher of an index, with search and reranker by the settings of ``eval``. Raises InputError."""
        from m3gal_cli.index.factory import SearchOptions, make_searcher
        from m3gal_cli.matching.matcher import Matcher
        from m3gal_cli.rerank.linear import LinearReranker, open_document_frequencies

        settings, encoder = self.config.eval, self.query_encoder
        options = SearchOptions(settings.index, settings.recall, settings.uri)
        searcher = make_searcher(options, index, encoder, lambda: self.device, self.log, progress)
        reranker = None
        if self.weights is not None:
            reranker = LinearReranker(self.weights.by_name, open_document_frequencies(index))
        return Matcher(index, encoder, searcher, reranker)

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

    A checkpoint of the published code has no run: without a profile its settings are those of paper.yaml.

    Args:
        checkpoint: Run, checkpoint directory or published file; None: the best checkpoint of the newest run.
        given: Settings by dotted name.
        sets: Settings as ``KEY=VALUE``.
        profile: Name or path of a profile that replaces the settings of the run.
        log: Called with messages, such as which checkpoint is used.

    Raises:
        InputError: No such checkpoint, or wrong settings.
    """
    from m3gal_cli.encoders.checkpoint_lookup import CONFIG_FILE, find_checkpoint, newest_run, run_folder_of

    given = dict(given)
    if checkpoint is None:
        checkpoint = newest_run(Path(load_config(profile, given, sets).run.dir))
        log(f"checkpoint: {checkpoint / 'best'} (the newest run's best)")
    path = find_checkpoint(checkpoint)
    run = run_folder_of(path) if path.is_dir() else None
    base = profile or (str(run / CONFIG_FILE) if run else PUBLISHED_PROFILE)
    if run and "data.dir" in given:  # another data folder replaces the files of the run
        sets = [*(f"data.{name}=null" for name in DATA_SETTINGS if f"data.{name}" not in given), *sets]
    if path.is_dir() and given.get("model.text_encoder"):
        log("--text-encoder is not needed: the checkpoint has its own")
    return Session(load_config(base, given, sets), path, run, log)
