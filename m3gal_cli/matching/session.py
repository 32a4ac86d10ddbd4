"""A checkpoint opened for use: its settings, as much of its model as is asked for, its index, its way to search.

The evaluations, ``predict`` and the Python API start here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3gal_cli.config.load import load_config
from m3gal_cli.config.paths import find_pois
from m3gal_cli.config.schema import Config
from m3gal_cli.errors import InputError

if TYPE_CHECKING:  # torch comes when a model is wanted
    import torch

    from m3gal_cli.core.checkpoint import Checkpoint
    from m3gal_cli.encoders.encoder import Progress, QueryEncoder, TorchEncoder
    from m3gal_cli.encoders.fingerprint import Fingerprint
    from m3gal_cli.index.builder import Share
    from m3gal_cli.index.index import Index
    from m3gal_cli.matching.matcher import Matcher
    from m3gal_cli.rerank.linear import RerankerWeights

PUBLISHED_PROFILE = "paper.yaml"
# Files of a checkpoint that vectors do not need.
NOT_THE_MODEL = {"trainer.pt", "README.md", "online.safetensors", "hybrid.json"}
RUN_FILES = ("suffix", "test_suffix", "views", "train", "val", "test", "poi")  # what a run's settings hold of its data
Log = Callable[[str], None]


def no_log(text: str) -> None:
    """Says nothing."""


@dataclass
class Session:
    """A checkpoint, the settings around it, and the run that it belongs to, if any.

    Nothing is loaded before it is asked for: of a built index, queries need the query encoder alone.
    """

    config: Config
    checkpoint: Path
    run: Path | None = None
    log: Log = field(default=no_log)

    @cached_property
    def device(self) -> torch.device:
        """Where the model runs; of several processes on a machine each takes a GPU of its own."""
        import torch

        from m3gal_cli.core.bi_encoder import resolve_device

        device, local = resolve_device(self.config.device), os.environ.get("LOCAL_RANK", "")
        if str(device) == "cuda" and local.isdigit():
            return torch.device("cuda", int(local) % torch.cuda.device_count())
        return device

    @cached_property
    def encoder(self) -> TorchEncoder:
        """The whole model. Raises InputError."""
        return self._embedder(("query", "poi", "location"))

    @cached_property
    def query_encoder(self) -> QueryEncoder:
        """What encodes queries, by ``eval.encoder_runtime``; no more than that is loaded. Raises InputError."""
        runtime = self.config.eval.encoder_runtime
        if runtime != "torch":
            from m3gal_cli.encoders.onnx_runtime import open_onnx

            int8 = runtime == "onnx-int8"
            return open_onnx(lambda: self._open(("query",)), self.model_fingerprint(), self._kept, int8, self.log)
        return self.encoder if "embedder" in self.__dict__ else self._embedder(("query",))

    @cached_property
    def weights(self) -> RerankerWeights | None:
        """Of the hybrid score, if the checkpoint has some and ``eval.rerank`` asks for it. Raises InputError."""
        from m3gal_cli.rerank.linear import RerankerWeights

        return RerankerWeights.load(self.checkpoint) if self.config.eval.rerank else None

    def learn_weights(self, progress: Progress) -> RerankerWeights | None:
        """Learn ``weights`` on the run's validation records and keep them in the checkpoint; None where there are few.

        Raises:
            InputError: unreadable records or POI table.
        """
        from m3gal_cli.config.paths import find_records
        from m3gal_cli.data.records import read_records
        from m3gal_cli.rerank.linear import BEFORE, RerankerWeights
        from m3gal_cli.training.reranker_fit import learn, table_of

        data, seed = self.config.data, self.config.seed
        path = find_records(data, "val")
        if path is None or not self.config.eval.rerank:
            return None
        before = None if self.run is None else RerankerWeights.load(self.run, BEFORE)
        found = learn(read_records(path, data.datum), table_of(data), self.encoder, seed, progress, before)
        if found is not None:
            found.save(self.checkpoint.resolve())
        return found

    def model_fingerprint(self) -> Fingerprint:
        """Of the whole model, for what is kept of it on the disk."""
        from m3gal_cli.compat.checkpoint_sources import published_settings
        from m3gal_cli.encoders.fingerprint import Fingerprint

        files, also = [self.checkpoint], dict[str, Any]()
        if self.checkpoint.is_dir():
            found = sorted(p for p in self.checkpoint.resolve().rglob("*") if p.is_file())
            files = [p for p in found if p.name not in NOT_THE_MODEL and "onnx" not in p.parent.name]
        else:  # weights alone: tokenizer and settings come from elsewhere
            source, settings = published_settings(self.checkpoint, self.config)
            also |= {"text_encoder": source, "settings": asdict(settings)}
            files += sorted(p for p in Path(source).glob("*") if p.is_file())
        return Fingerprint(tuple(files), also)

    def text_fingerprint(self) -> Fingerprint:
        """Of what makes vectors of texts: the whole model, and the precision that it runs with."""
        model = self.model_fingerprint()
        return replace(model, also=model.also | {"precision": self._precision})

    @property
    def texts_folder(self) -> Path:
        """Where vectors of texts are kept if nobody says where: in the run, else beside the published file."""
        if self.run is not None:
            return self.run / "texts"
        return self.checkpoint.with_name(f"{self.checkpoint.name}.texts")

    @property
    def poi_table(self) -> Path:
        """The POI table. Raises InputError where there is none."""
        path = find_pois(self.config.data)
        if path is None:
            hint = "Give --poi-database-filepath FILE, or --data-dir with the folder that holds a POI table."
            raise InputError("no POI table", where=self.config.data.dir, hint=hint)
        return path

    def index(self, progress: Progress, share: Share | None = None) -> Index | None:
        """The index of the POI table, made where it must be; None in the processes besides the first.

        Raises:
            InputError: no table, an unreadable one, weights of the hybrid score that cannot be read, a full disk.
        """
        from m3gal_cli.encoders.fingerprint import Fingerprint
        from m3gal_cli.encoders.model_loading import poi_sources_of
        from m3gal_cli.files import require_file, stem_of
        from m3gal_cli.index.builder import Share, Sources, open_or_build

        def read() -> Any:
            from m3gal_cli.data.tables import read_pois

            return read_pois(table, datum)

        _ = self.weights  # what is wrong with them is told before the places are encoded
        table, datum = require_file(self.poi_table, "POI table"), self.config.data.datum
        files, also = poi_sources_of(self.checkpoint, self.config)
        sources = Sources(
            Fingerprint(tuple(files), also),
            Fingerprint((table,), {"datum": datum}),
            read,
            lambda: self.encoder,
        )
        path = Path(self.config.eval.index_dir or self._kept / "index" / stem_of(table))
        return open_or_build(path, sources, self.log, progress, share or Share())

    def matcher(self, index: Index, progress: Progress) -> Matcher:
        """What answers queries from an index, by the settings of ``eval``. Raises InputError."""
        from m3gal_cli.index.factory import make_searcher
        from m3gal_cli.matching.matcher import Matcher
        from m3gal_cli.rerank.linear import LinearReranker, open_document_frequencies

        asked, encoder = self.config.eval, self.query_encoder
        searcher = make_searcher(
            *(asked.index, index, encoder, lambda: self.device, asked.uri, asked.recall, self.log, progress)
        )
        reranker = None if self.weights is None else LinearReranker(self.weights, open_document_frequencies(index))
        return Matcher(index, encoder, searcher, reranker)

    @property
    def _kept(self) -> Path:
        """Where what is made of the model is kept."""
        return self.run or Path()

    def _open(self, parts: Sequence[str]) -> Checkpoint:
        from m3gal_cli.encoders.model_loading import open_checkpoint

        return open_checkpoint(self.checkpoint, self.config, parts=parts)

    def _embedder(self, parts: Sequence[str]) -> TorchEncoder:
        from m3gal_cli.core.bi_encoder import choose_attention
        from m3gal_cli.encoders.encoder import TorchEncoder

        checkpoint = self._open(parts)
        choose_attention(checkpoint.model, self.device, self._precision)
        return TorchEncoder(checkpoint, self.device, self.config.eval.batch_tokens, self._precision)

    @property
    def _precision(self) -> str:
        from m3gal_cli.core.bi_encoder import resolve_precision

        return resolve_precision(self.config.eval.precision, self.device)


def open_session(
    checkpoint: Path | None,
    given: Mapping[str, Any],
    sets: Sequence[str] = (),
    profile: str | None = None,
    log: Log = no_log,
) -> Session:
    """The checkpoint that is asked for (else the newest run's best) with its run's settings, others on top.

    A checkpoint of the published code has no run: without a profile its settings are those of paper.yaml.

    Args:
        checkpoint: run, checkpoint directory or published file.
        given: settings by dotted name.
        sets: settings as ``KEY=VALUE``.
        say: is told which checkpoint is taken.

    Raises:
        InputError: no such checkpoint, wrong settings.
    """
    from m3gal_cli.encoders.checkpoint_lookup import CONFIG_FILE, find_checkpoint, newest_run, run_of

    given = dict(given)
    asked = load_config(profile, given, sets)
    if checkpoint is None:
        checkpoint = newest_run(Path(asked.run.dir))
        log(f"checkpoint: {checkpoint / 'best'} (the newest run's best)")
    found = find_checkpoint(checkpoint)
    run = run_of(found) if found.is_dir() else None
    base = profile or (str(run / CONFIG_FILE) if run else PUBLISHED_PROFILE)
    if run and "data.dir" in given:  # another folder: the run's own files are not meant
        sets = [*(f"data.{name}=null" for name in RUN_FILES if f"data.{name}" not in given), *sets]
    if found.is_dir() and given.get("model.text_encoder"):
        log("--text-encoder is not needed: the checkpoint has its own")
    return Session(load_config(base, given, sets), found, run, log)
