"""The files of a checkpoint's parts: where each weight lies, and how each part is written for others to open.

Format 2 (written):
    query_encoder/, poi_encoder/    a transformers and sentence-transformers directory each (encoder_q, encoder_k)
    location_encoder/               model.safetensors (gc_encoder_shadow, which scores), config.json,
                                    online.safetensors (gc_encoder, which pretraining goes on from)
Format 1 (read): model.safetensors with all four under their published names, text_encoder/ with config and tokenizer.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.checkpoint_layout import (
    CONFIG_FILE,
    FORMATS,
    LOCATION_FOLDER,
    POI_FOLDER,
    QUERY_FOLDER,
    WEIGHTS_FILE,
)
from m3gal_cli.core.location_encoder import location_recipe
from m3gal_cli.core.sentence_transformers_export import standalone_tokenizer, write_modules
from m3gal_cli.core.tokenizer import max_positions

# file -> what its weights' names begin with in the model (the published names)
FILES = {
    f"{QUERY_FOLDER}/{WEIGHTS_FILE}": "encoder_q.text_encoder.",
    f"{POI_FOLDER}/{WEIGHTS_FILE}": "encoder_k.text_encoder.",
    f"{LOCATION_FOLDER}/online.safetensors": "gc_encoder.",
    f"{LOCATION_FOLDER}/{WEIGHTS_FILE}": "gc_encoder_shadow.",
}


def read_weights(path: Path, form: int = FORMATS[-1], prefixes: Collection[str] | None = None) -> dict[str, Tensor]:
    """Weights of a checkpoint directory under their published names; all, or those that begin with ``prefixes``.

    Raises OSError or SafetensorError.
    """
    starts = None if prefixes is None else tuple(prefixes)
    if form == 1:
        found = load_file(path / WEIGHTS_FILE)
        return {name: value for name, value in found.items() if starts is None or name.startswith(starts)}
    files = {file: prefix for file, prefix in FILES.items() if starts is None or prefix.startswith(starts)}
    return {prefix + name: value for file, prefix in files.items() for name, value in load_file(path / file).items()}


def write_parts(folder: Path, model: M3gal, tokenizer: Any) -> None:
    """Write the three encoders below ``folder``. Raises OSError, SafetensorError."""
    settings = model.settings
    sides = ((QUERY_FOLDER, "query", settings.query_prefix), (POI_FOLDER, "document", settings.passage_prefix))
    for name, prompt, prefix in sides:
        encoder = model.encoder_q if name == QUERY_FOLDER else model.encoder_k
        transformer: Any = encoder.text_encoder
        length = min(settings.max_length, max_positions(transformer.config))
        config = copy.deepcopy(transformer.config)
        config.architectures = [type(transformer).__name__]
        config.save_pretrained(folder / name)
        save_tokenizer(standalone_tokenizer(tokenizer, settings.append_sep, length), folder / name)
        write_modules(folder / name, encoder, {prompt: prefix} if prefix else {}, length)
    (folder / LOCATION_FOLDER).mkdir()
    recipe = location_recipe(model.dim, settings) | {"normalizer": asdict(settings.normalizer)}
    text = json.dumps(recipe, indent=1)
    (folder / LOCATION_FOLDER / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    parts: dict[str, Any] = {"encoder_q.text_encoder.": model.encoder_q.text_encoder}
    parts |= {"encoder_k.text_encoder.": model.encoder_k.text_encoder}
    parts |= {"gc_encoder.": model.gc_encoder, "gc_encoder_shadow.": model.gc_encoder_shadow}
    for file, prefix in FILES.items():
        save_weights(parts[prefix], folder / file)


def save_weights(module: nn.Module, path: Path) -> None:
    """A module's state as safetensors, its names as they are."""
    state = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes files private


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """A tokenizer's files. Raises OSError."""
    try:
        tokenizer.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # the tokenizers library raises a bare Exception for a full disk
        raise OSError(str(error)) from error
