"""Read and write the weights of a checkpoint directory, each encoder in a form that other libraries open.

Format 2 (written):
    query_encoder/, poi_encoder/    transformers and sentence-transformers directories of encoder_q and encoder_k
    location_encoder/               model.safetensors (gc_encoder_shadow, used for scores), config.json,
                                    online.safetensors (gc_encoder, used only by further pretraining)
Format 1 (read): model.safetensors with all four encoders under their published names; text_encoder/ with config and
tokenizer.
Format 3 (read): text_encoder/ with the weights of both text encoders in 4 bits (see quantised_weights), and
location_encoder/ with one location encoder. Its m3gal.json has the SHA-256 of every file.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.checkpoint_layout import (
    CONFIG_FILE,
    LOCATION_FOLDER,
    POI_FOLDER,
    QUERY_FOLDER,
    TEXT_FOLDER,
    WEIGHTS_FILE,
    WRITTEN_FORMAT,
)
from m3gal_cli.core.location_encoder import location_config
from m3gal_cli.core.quantised_weights import expand, read_tensors
from m3gal_cli.core.sentence_transformers_export import save_weights, standalone_tokenizer, write_modules
from m3gal_cli.core.tokenizer import max_positions
from m3gal_cli.files import write_json

# Prefix of the names in the model (the published names) of each file's weights.
FILES = {
    f"{QUERY_FOLDER}/{WEIGHTS_FILE}": "encoder_q.text_encoder.",
    f"{POI_FOLDER}/{WEIGHTS_FILE}": "encoder_k.text_encoder.",
    f"{LOCATION_FOLDER}/online.safetensors": "gc_encoder.",
    f"{LOCATION_FOLDER}/{WEIGHTS_FILE}": "gc_encoder_shadow.",
}


def read_weights(
    path: Path, version: int = WRITTEN_FORMAT, prefixes: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Read the weights whose published names begin with one of ``prefixes`` (None: all) from a checkpoint directory.

    Raises:
        OSError, SafetensorError: A file is missing or damaged.
    """
    starts = None if prefixes is None else tuple(prefixes)
    if version == 1:
        weights = load_file(path / WEIGHTS_FILE)
        return {name: value for name, value in weights.items() if starts is None or name.startswith(starts)}
    if version == 3:
        return _read_shared(path, starts)
    files = {file: prefix for file, prefix in FILES.items() if starts is None or prefix.startswith(starts)}
    return {prefix + name: value for file, prefix in files.items() for name, value in load_file(path / file).items()}


def _read_shared(path: Path, starts: tuple[str, ...] | None) -> dict[str, Tensor]:
    """Read format 3, where both text encoders share their weights, and so do both location encoders."""
    out: dict[str, Tensor] = {}
    for folder in (TEXT_FOLDER, LOCATION_FOLDER):
        prefixes = [p for p in FILES.values() if (folder == TEXT_FOLDER) == p.startswith("encoder_")]
        wanted = [prefix for prefix in prefixes if starts is None or prefix.startswith(starts)]
        values = expand(read_tensors(path / folder / WEIGHTS_FILE)) if wanted else {}
        out |= {prefix + name: torch.from_numpy(value) for prefix in wanted for name, value in values.items()}
    return out


def write_parts(folder: Path, model: M3gal, tokenizer: Any) -> None:
    """Write the encoders of a model below ``folder``. Raises OSError or SafetensorError, such as for a full disk."""
    settings = model.settings
    length = min(settings.max_length, max_positions(model.text_config))
    own_tokenizer = standalone_tokenizer(tokenizer, settings.append_sep, length)
    sides = (
        (QUERY_FOLDER, model.encoder_q, "query", settings.query_prefix),
        (POI_FOLDER, model.encoder_k, "document", settings.passage_prefix),
    )
    for name, encoder, prompt, prefix in sides:
        config = copy.deepcopy(encoder.text_encoder.config)
        config.architectures = [type(encoder.text_encoder).__name__]
        config.save_pretrained(folder / name)
        _save_tokenizer(own_tokenizer, folder / name)
        write_modules(folder / name, encoder, {prompt: prefix} if prefix else {}, length)
    (folder / LOCATION_FOLDER).mkdir()
    constants = location_config(model.dim, settings) | {"normalizer": asdict(settings.normalizer)}
    write_json(folder / LOCATION_FOLDER / CONFIG_FILE, constants)
    for file, prefix in FILES.items():
        save_weights(model.get_submodule(prefix.removesuffix(".")), folder / file)


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    try:
        tokenizer.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # the tokenizers library raises a bare Exception if the disk is full
        raise OSError(str(error)) from error
