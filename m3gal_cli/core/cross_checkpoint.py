"""Checkpoints of cross-encoders: a directory that a bi-encoder's cannot be taken for, nor the other way round.

cross_encoder/       a transformers directory: config, weights, tokenizer
score.safetensors    the linear layer that makes the score
README.md            what it is and how it is opened
trainer.pt           optimizer, random states (read weights-only)
m3gal.json           kind, format version, settings, stage, epoch, step, metrics; written last
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from m3gal_cli.core.card import POOLED
from m3gal_cli.core.checkpoint import (
    CARD_FILE,
    Stored,
    damage_told,
    known,
    load_weights,
    of_one_folder,
    read_meta,
    read_trainer,
    write_meta,
)
from m3gal_cli.core.cross import CrossEncoder, CrossSettings, with_separator
from m3gal_cli.core.files import CROSS_ENCODER, WEIGHTS_FILE
from m3gal_cli.core.layout import save_tokenizer, save_weights
from m3gal_cli.core.sentence import standalone_tokenizer
from m3gal_cli.core.text import build_text_model, load_text_config, load_tokenizer
from m3gal_cli.core.tokenizer import max_positions

FORMATS = (1,)
TEXT_FOLDER, SCORE_FILE = "cross_encoder", "score.safetensors"
# file -> what its weights' names begin with in the model
FILES = {f"{TEXT_FOLDER}/{WEIGHTS_FILE}": "text_encoder.", SCORE_FILE: "score."}
CARD = """\
# Cross-encoder: how well a place fits what is typed

It reads a query and a place's text together and gives one score, of which the order alone means something. Stage:
{stage}. Step: {step}. Epoch: {epoch}. With `m3gal` it is `m3gal eval-rerank --reranker FOLDER`; without:

```python
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("{folder}"), AutoModel.from_pretrained("{folder}").eval()
layer = load_file("{score}")

def scores(query, passages):
    pairs = [query] * len(passages), passages
    cut = {{"truncation": "longest_first", "max_length": {length}, "padding": True, "return_tensors": "pt"}}
    batch = tokenizer(*pairs, return_token_type_ids={types}, **cut)
    mask = batch["attention_mask"]
    with torch.inference_mode():
        out = model(**batch)
    return ({pooled}) @ layer["weight"][0] + layer["bias"]

found = scores("north gate of the harbour mall", ["Harbour Mall, north gate", "Castle Hill Library"])
```
"""


class CrossCheckpoint(Stored[CrossEncoder]):
    """A cross-encoder."""

    def write(self, folder: Path) -> None:
        model, settings = self.model, self.model.settings
        encoder: Any = model.text_encoder
        length = min(settings.max_length, max_positions(model.text_config))
        config = copy.deepcopy(model.text_config)
        config.architectures = [type(encoder).__name__]
        config.save_pretrained(folder / TEXT_FOLDER)
        own = standalone_tokenizer(with_separator(self.tokenizer), True, length)
        save_tokenizer(own, folder / TEXT_FOLDER)
        for (file, _), part in zip(FILES.items(), (encoder, model.score), strict=True):
            save_weights(part, folder / file)
        self.write_trainer(folder)
        meta = {"kind": CROSS_ENCODER, "format": FORMATS[-1]} | self.meta() | {"settings": settings.to_json()}
        named = {"folder": TEXT_FOLDER, "score": SCORE_FILE, "length": length, "pooled": POOLED[settings.pooling]}
        named["types"] = settings.types
        text = CARD.format(stage=self.stage or "not trained", step=self.step, epoch=self.epoch, **named)
        (folder / CARD_FILE).write_text(text, encoding="utf-8")
        write_meta(folder, meta)


def load_cross(path: Path, with_trainer: bool = False) -> CrossCheckpoint:
    """Read a cross-encoder's checkpoint directory.

    Raises:
        InputError: missing, truncated or foreign files; a bi-encoder; weights that do not fit the settings.
    """
    return of_one_folder(path, lambda folder: _load(path, folder, with_trainer))


def _load(path: Path, folder: Path, with_trainer: bool) -> CrossCheckpoint:
    meta = read_meta(path, folder, CROSS_ENCODER, FORMATS)
    with damage_told(path):
        settings = CrossSettings.from_json(meta["settings"])
        state = {p + name: value for file, p in FILES.items() for name, value in load_file(folder / file).items()}
    text = str(folder / TEXT_FOLDER)
    model = CrossEncoder(build_text_model(load_text_config(text)), settings)
    load_weights(model, state, path)
    return CrossCheckpoint(model, load_tokenizer(text), path, trainer=read_trainer(folder, with_trainer), **known(meta))
