"""Write a trained checkpoint as the packaged model: 4-bit weights with corrections, the graph, the licence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from graph import write_graph
from numpy.typing import NDArray

from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.checkpoint_layout import (
    CONFIG_FILE,
    GRAPH_FILE,
    LOCATION_FOLDER,
    META_FILE,
    TEXT_FOLDER,
    WEIGHTS_FILE,
)
from m3gal_cli.core.location_encoder import location_config
from m3gal_cli.core.model_card import TrainingData
from m3gal_cli.core.quantised_weights import compress, write_tensors
from m3gal_cli.core.text_encoder import load_text_model
from m3gal_cli.files import atomic_folder, file_sha256, write_json
from m3gal_cli.rerank.weights import WEIGHTS_FILE as RERANKER_FILE
from m3gal_cli.training.pipelines import OSM_ATTRIBUTION
from m3gal_cli.training.rehearsal import REHEARSAL_FILE

FORMAT = 3
RANK = 24  # of the corrections
# Share of the change by the trainings that is kept. Interpolation with the start keeps what the start knew about texts
# unlike the training data (Wortsman et al. 2022, "Robust Fine-tuning of Zero-shot Models").
SHARE = 0.65
MAX_LENGTH = 64  # tokens of a text, with special tokens; the training saw texts of up to 48
DATA = TrainingData(
    attribution=(
        "Text encoder: intfloat/multilingual-e5-small by Liang Wang et al., MIT licence",
        OSM_ATTRIBUTION,
    ),
    languages=("ca", "de", "en", "fi", "fr", "no", "sv", "zh"),
    licence="mit",
)
KEPT = (RERANKER_FILE, REHEARSAL_FILE, "NOTICE.md")  # files of the packaged folder that are not made here


def pack(checkpoints: Sequence[Checkpoint], base: str, target: Path) -> None:
    """Replace the packaged model.

    Args:
        checkpoints: Trained models. The mean of their query encoders, moved back towards ``base`` (see ``SHARE``),
            becomes the encoder of both sides. The location encoder is that of the first one.
        base: Folder of the text encoder that the trainings started from; its weights are on a 4-bit grid.
        target: Folder of the packaged model; its files ``KEPT`` stay.
    """
    checkpoint, before = checkpoints[0], _arrays(load_text_model(base))
    trained = [_arrays(own.model.encoder_q.text_encoder) for own in checkpoints]
    changes = {name: np.mean([own[name] - value for own in trained], axis=0) for name, value in before.items()}
    tensors = compress({name: value + SHARE * changes[name] for name, value in before.items()}, before, RANK)
    positions = "embeddings.position_embeddings.weight"
    tensors[positions] = np.ascontiguousarray(tensors[positions][:MAX_LENGTH])
    config = checkpoint.model.encoder_q.text_encoder.config
    config.max_position_embeddings, config.dtype = MAX_LENGTH, "float32"
    settings = replace(checkpoint.model.settings, max_length=MAX_LENGTH, location_weight=0.0)
    fresh = target.with_name(f"{target.name}.new")
    with atomic_folder(fresh) as folder:
        text, location = folder / TEXT_FOLDER, folder / LOCATION_FOLDER
        text.mkdir()
        location.mkdir()
        config.save_pretrained(text)
        _save_tokenizer(base, text)
        write_tensors(text / WEIGHTS_FILE, tensors)
        write_graph(config, text / GRAPH_FILE)
        weights = _arrays(checkpoint.model.gc_encoder_shadow)
        write_tensors(location / WEIGHTS_FILE, compress(weights, weights, 0))
        constants = location_config(checkpoint.model.dim, settings) | {"normalizer": asdict(settings.normalizer)}
        write_json(location / CONFIG_FILE, constants)
        for name in KEPT:
            if (target / name).exists():
                shutil.copyfile(target / name, folder / name)
        for path in folder.rglob("*"):  # safetensors makes files private
            path.chmod(0o755 if path.is_dir() else 0o644)
        _write_meta(folder, checkpoint, settings)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _arrays(module: Any) -> dict[str, NDArray[Any]]:
    """Return the weights of a module by name, without a pooler."""
    return {name: value.float().numpy() for name, value in module.state_dict().items() if "pooler" not in name}


def _save_tokenizer(base: str, folder: Path) -> None:
    """Copy the tokenizer files; tokenizer.json without white space, which takes half of it."""
    content = json.loads((Path(base) / "tokenizer.json").read_text(encoding="utf-8"))
    compact = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(compact, encoding="utf-8")
    shutil.copyfile(Path(base) / "tokenizer_config.json", folder / "tokenizer_config.json")


def _write_meta(folder: Path, checkpoint: Checkpoint, settings: Any) -> None:
    files = sorted(p for part in (TEXT_FOLDER, LOCATION_FOLDER) for p in (folder / part).iterdir())
    meta = {
        "format": FORMAT,
        "stage": checkpoint.stage,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "metrics": checkpoint.metrics,
        "settings": settings.to_json(),
        "data": asdict(DATA),
        "files": {p.relative_to(folder).as_posix(): file_sha256(p) for p in files},
    }
    write_json(folder / META_FILE, meta)
