"""Checkpoint directories: inference weights as safetensors and JSON, each weight once, apart from the trainer's state:

query_encoder/, poi_encoder/, location_encoder/     the model's parts, which others can open (see layout)
README.md            what it is and how each part is opened
trainer.pt           queue, optimizer, random states (read weights-only)
m3gal.json           format version, model settings, stage, epoch, step, metrics; written last
"""

from __future__ import annotations

import json
import pickle
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from m3gal_cli.core.bi_encoder import PARTS, M3gal
from m3gal_cli.core.checkpoint_layout import FORMATS, META_FILE, check_kind, is_checkpoint, text_folder
from m3gal_cli.core.checkpoint_parts import read_weights, write_parts
from m3gal_cli.core.model_card import model_card
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.text_encoder import build_text_model, load_text_config, load_tokenizer, undrawn
from m3gal_cli.errors import InputError
from m3gal_cli.files import publish_folder

TRAINER_FILE, CARD_FILE = "trainer.pt", "README.md"
ALL_PARTS = (*PARTS.values(), "gc_encoder.")
ModelT = TypeVar("ModelT", bound=nn.Module)
Read = TypeVar("Read")


@dataclass
class Stored(ABC, Generic[ModelT]):
    """A model ready to use, its tokenizer, and what is known of its training."""

    model: ModelT
    tokenizer: Any
    path: Path | None = None
    stage: str | None = None
    epoch: int = 0
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    trainer: dict[str, Any] | None = None

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write all files of a checkpoint directory. Raises OSError, SafetensorError, RuntimeError."""

    def write_trainer(self, folder: Path) -> None:
        """Write what a resumed training needs besides the model, if it is there."""
        if self.trainer is not None:
            torch.save(self.trainer, folder / TRAINER_FILE)

    def meta(self) -> dict[str, Any]:
        """What ``META_FILE`` says of the training."""
        return {"stage": self.stage, "epoch": self.epoch, "step": self.step, "metrics": self.metrics}


class Checkpoint(Stored[M3gal]):
    """A bi-encoder."""

    def write(self, folder: Path) -> None:
        write_parts(folder, self.model, self.tokenizer)
        self.write_trainer(folder)
        meta = {"format": FORMATS[-1]} | self.meta() | {"settings": self.model.settings.to_json()}
        (folder / CARD_FILE).write_text(model_card(self.model, self.tokenizer, meta), encoding="utf-8")
        write_meta(folder, meta)


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Write ``META_FILE``, which makes a folder a checkpoint: the last thing to be written."""
    (folder / META_FILE).write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def save_checkpoint(path: Path, checkpoint: Stored[Any]) -> None:
    """Write a checkpoint directory; it appears under ``path`` only when whole and on the disk.

    Nothing is ever replaced: there is no way to do that without a moment in which neither is there.

    Raises:
        InputError: the disk is full, ``path`` is taken, …; what is there stays as it is.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        checkpoint.write(temporary)
        publish_folder(temporary, path)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise unsaved(error, path) from error


def unsaved(error: Exception, path: Path) -> InputError:
    """The one error that says why ``path`` could not be written."""
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())[:160]
    return InputError(f"cannot save the checkpoint ({reason})", where=path, hint="Free space and resume.")


def load_checkpoint(path: Path, with_trainer: bool = False, parts: Collection[str] | None = None) -> Checkpoint:
    """Read one of our checkpoint directories, of this format or an older one.

    Args:
        parts: the encoders that are wanted for inference, of ``core.model.PARTS``, which takes a fraction of the time;
            None: all, as training needs them.

    Raises:
        InputError: missing, truncated or foreign files; weights that do not fit the settings.
    """
    return of_one_folder(path, lambda folder: _load(path, folder, with_trainer, parts))


def of_one_folder(path: Path, read: Callable[[Path], Read]) -> Read:
    """``read`` of the folder that ``path`` leads to: a link may be switched meanwhile, but all comes from one of them.

    Raises InputError, as ``read`` does of a folder that stays.
    """
    folder = path.resolve()
    try:
        return read(folder)
    except InputError:
        if path.resolve() == folder:
            raise
        return of_one_folder(path, read)  # a training saved anew, and what we read went


def _load(path: Path, folder: Path, with_trainer: bool, parts: Collection[str] | None) -> Checkpoint:
    meta = read_meta(path, folder)
    with damage_told(path):
        settings = ModelSettings.from_json(meta["settings"])
        state = read_weights(folder, meta["format"], weight_prefixes(parts))
    text = str(text_folder(folder, meta["format"]))
    model = build_model(text, settings, parts)
    load_weights(model, state, path)
    return Checkpoint(model, load_tokenizer(text), path, trainer=read_trainer(folder, with_trainer), **known(meta))


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Whatever damaged files raise within becomes the InputError that says so."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        what = f"cannot read the checkpoint, it is damaged ({' '.join(str(error).split())[:120]})"
        raise InputError(what, where=path, hint="Take another checkpoint of the run.") from error


def read_meta(path: Path, folder: Path) -> dict[str, Any]:
    """``META_FILE`` of a checkpoint of this kind. Raises InputError: no checkpoint, of another kind or format, damaged.

    Args:
        path: what the error names; ``folder`` is what it leads to.
    """
    if not is_checkpoint(folder):
        hint = "Give a checkpoint directory, a run directory or a published .pth.tar file."
        raise InputError("no such checkpoint" if not path.exists() else "is no checkpoint", where=path, hint=hint)
    with damage_told(path):
        meta: dict[str, Any] = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
        form = meta["format"]
    check_kind(path, meta)
    if form not in FORMATS:
        what = f"the checkpoint has format {form}, this m3gal reads {' and '.join(map(str, FORMATS))}"
        raise InputError(what, where=path, hint="Load it with the m3gal that wrote it.")
    return meta


def read_trainer(folder: Path, wanted: bool) -> dict[str, Any] | None:
    """The state of the training, where it is wanted and there. Raises InputError."""
    return read_torch(folder / TRAINER_FILE) if wanted and (folder / TRAINER_FILE).exists() else None


def known(meta: dict[str, Any]) -> dict[str, Any]:
    """What ``META_FILE`` says of the training, as fields of a checkpoint."""
    return {name: meta.get(name) for name in ("stage", "epoch", "step", "metrics")}


def weight_prefixes(parts: Collection[str] | None) -> tuple[str, ...]:
    return ALL_PARTS if parts is None else tuple(PARTS[part] for part in parts)


def build_model(text_encoder: str, settings: ModelSettings, parts: Collection[str] | None) -> M3gal:
    """A model whose weights are to be loaded. For training it draws them first, as ever: its draws go on from there."""
    with nullcontext() if parts is None else undrawn():
        return M3gal(build_text_model(load_text_config(text_encoder)), settings, parts)


def read_torch(path: Path) -> Any:
    """torch.load of tensors and plain containers only. Raises InputError; nothing in the file is run."""
    if not path.exists():
        raise InputError("no such checkpoint", where=path, hint="Check the path.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        hint = "Only tensors and plain containers are read; nothing was run. Get the file from its author again."
        raise InputError("the checkpoint holds foreign code, or is no checkpoint", where=path, hint=hint) from error
    except Exception as error:  # a damaged file makes the unpickler raise whatever its parts raise
        raise InputError("cannot read the checkpoint (truncated?)", where=path, hint="Fetch it again.") from error


def load_weights(model: Any, state: dict[str, Tensor], path: Path) -> None:
    """Load a state dict strictly. Raises InputError that names the first parts that are missing or of another shape.

    Args:
        model: a module; its ``settings.pooling`` says whether a pooler is used, which may be missing if not.
    """
    own = model.state_dict()
    wrong = [
        f"{name} is {tuple(value.shape)}, the encoder's is {tuple(own[name].shape)}"
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    hint = "Give the --text-encoder (and model settings) that the checkpoint was trained with."
    if wrong:
        raise InputError(
            f"a checkpoint of another width: {wrong[0]} (and {len(wrong) - 1} more)", where=path, hint=hint
        )
    unused = () if model.settings.pooling == "pooler" else (".pooler.",)
    missing = [name for name in own if name not in state and not any(part in name for part in unused)]
    extra = [name for name in state if name not in own and not any(part in name for part in unused)]
    if missing or extra:
        names = ", ".join((missing + extra)[:3])
        word = "lacks" if missing else "has unknown"
        raise InputError(f"the checkpoint {word} weights: {names}…", where=path, hint=hint)
    model.load_state_dict(state, strict=False)
