"""The README.md of a checkpoint: what it is, and code that opens each part of it without m3gal."""

from __future__ import annotations

import json
from typing import Any

from m3gal_cli.core.bi_encoder import M3gal, count_parameters
from m3gal_cli.core.sentence_transformers_export import expressible
from m3gal_cli.core.tokenizer import max_positions

CARD = """\
---
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, geographic-retrieval, m3gal]
---

# M3GAL: from what people type to the place they mean

Three encoders into one space of {dim} dimensions: `query_encoder` (what is typed), `poi_encoder` (a place's text) and
`location_encoder` (a place's coordinates). All vectors have length 1. The score of a place for a query is

    query · (text of the place + {weight}location of the place)

so that one vector a place, the sum of its two, is all that an index holds.

Stage: {stage}. Step: {step}. Epoch: {epoch}. Weights: {parameters:,}.

{metrics}
The code below runs in this folder. With `m3gal` all of it is `m3gal predict --checkpoint FOLDER`.

## The text encoders

{sentence}
With transformers:

```python
import torch
from transformers import AutoModel, AutoTokenizer

def text_vectors(folder, prefix, texts):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    full = [prefix + t for t in texts]
    batch = tokenizer(full, truncation=True, max_length={length}, padding=True, return_tensors="pt")
    mask = batch["attention_mask"]
    with torch.inference_mode():
        out = model(input_ids=batch["input_ids"], attention_mask=mask)
    return torch.nn.functional.normalize({pooled}, dim=-1)

query = text_vectors("query_encoder", {query_prefix}, ["north gate of the harbour mall"])
place = text_vectors("poi_encoder", {passage_prefix}, ["Harbour Mall, north gate"])
```
{sep}
## The location encoder

{formula}

`location_encoder/model.safetensors` holds the weights, `config.json` every constant. (`online.safetensors` is the
encoder that pretraining trains and that the scoring one trails; only further pretraining needs it.) With numpy:

```python
import json
import math

import numpy as np
from safetensors.numpy import load_file

def place_vectors(folder, lng, lat):
    with open(f"{{folder}}/config.json") as file:
        c = json.load(file)
    w, n = load_file(f"{{folder}}/model.safetensors"), c["normalizer"]
    x = (np.asarray(lng, float) - n["lng_mean"]) / n["lng_std"]  # degrees, WGS-84
    y = (np.asarray(lat, float) - n["lat_mean"]) / n["lat_std"]
    h = np.stack([x, y], axis=1).astype(np.float32)
{features}    for i, name in enumerate(c["layers"]):
        if i:
            h = {activation}
        h = h @ w[f"{{name}}.weight"].T + w[f"{{name}}.bias"]
    return h / np.linalg.norm(h, axis=1, keepdims=True)

location = place_vectors("location_encoder", [{lng:.4f}], [{lat:.4f}])
```

## Settings

```json
{settings}
```
"""

SENTENCE = """\
With sentence-transformers (cut, pooling, prefix and length 1 are part of the folders):

```python
from sentence_transformers import SentenceTransformer

query = SentenceTransformer("query_encoder").encode(["north gate of the harbour mall"])
place = SentenceTransformer("poi_encoder").encode(["Harbour Mall, north gate"])
```
"""
NO_SENTENCE = "sentence-transformers has no module for this encoder's pooler: take the way below.\n"
NO_SEP = "\nA text ends without [SEP]: the tokenizers in these folders leave it out.\n"
SLOW_NO_SEP = "\nA text must end without [SEP], but this kind of tokenizer cannot leave it out: take it off the ids.\n"
POOLED = {
    "mean": "(out.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)",
    "cls": "out.last_hidden_state[:, 0]",
    "pooler": "out.pooler_output",
}
Z = """\
With λ, φ the longitude and latitude in degrees (WGS-84), the z-scores are

    z = ((λ - lng_mean) / lng_std, (φ - lat_mean) / lat_std)
"""
MLP = """
and the vector is W4·relu(W3·relu(W2·relu(W1·z + b1) + b2) + b3) + b4, divided by its length, W1 to W4 and b1 to b4
being the layers 0, 2, 4 and 6."""
FOURIER = """
and the metres east and north of the mean point

    e = z₁ · lng_std · metres_per_degree · cos(lat_mean),   n = z₂ · lat_std · metres_per_degree.

For each of the directions α (0°, 120°, 240°) and, within it, each wavelength w (metres), the phase is
p = 2π (e cos α + n sin α) / w. The features f are the sines of all phases, then their cosines, then z. The vector is
W3·gelu(W2·gelu(W1·f + b1) + b2) + b3, divided by its length, with gelu(x) = x (1 + erf(x / √2)) / 2 and the layers
mlp.0, mlp.2 and mlp.4. (In float32, as the model computes it, a phase of 1,000 turns is known to a thousandth.)"""
FEATURES = """\
    metres = c["metres_per_degree"] * np.array([n["lng_std"] * math.cos(math.radians(n["lat_mean"])), n["lat_std"]])
    angles = np.radians(c["directions_deg"])
    along = (h * metres) @ np.stack([np.cos(angles), np.sin(angles)])
    phase = (along[:, :, None] * (2 * np.pi / np.array(c["wavelengths_m"]))).reshape(len(h), -1)
    h = np.concatenate([np.sin(phase), np.cos(phase), h], axis=1)
"""
ACTIVATIONS = {"mlp": "np.maximum(h, 0)", "fourier": "h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2"}


def model_card(model: M3gal, tokenizer: Any, meta: dict[str, Any]) -> str:
    """The card of a checkpoint, Markdown.

    Args:
        meta: stage, epoch, step, metrics and settings, as m3gal.json has them.
    """
    settings, encoder = model.settings, model.encoder_q
    kind = settings.location_encoder
    no_sep = SLOW_NO_SEP if getattr(tokenizer, "backend_tokenizer", None) is None else NO_SEP
    return CARD.format(
        dim=model.dim,
        weight="" if settings.location_weight == 1.0 else f"{settings.location_weight:g} × ",
        stage=meta["stage"] or "not trained",
        step=meta["step"],
        epoch=meta["epoch"],
        parameters=count_parameters(model),
        metrics=_metrics(meta["metrics"]),
        sentence=SENTENCE if expressible(encoder) else NO_SENTENCE,
        length=min(settings.max_length, max_positions(encoder.text_encoder.config)),
        pooled=POOLED[settings.pooling],
        query_prefix=json.dumps(settings.query_prefix, ensure_ascii=False),
        passage_prefix=json.dumps(settings.passage_prefix, ensure_ascii=False),
        sep="" if settings.append_sep else no_sep,
        formula=Z + (FOURIER if kind == "fourier" else MLP),
        features=FEATURES if kind == "fourier" else "",
        activation=ACTIVATIONS[kind],
        lng=settings.normalizer.lng_mean,
        lat=settings.normalizer.lat_mean,
        settings=json.dumps(meta["settings"], indent=1, ensure_ascii=False),
    )


def _metrics(metrics: dict[str, float] | None) -> str:
    """The last validation as a table: a row for text, location and fused each."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in (metrics or {}).items():
        kind, _, metric = name.partition(".")
        rows.setdefault(kind if metric else "", {})[metric or kind] = value
    if not rows:
        return ""
    columns = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for kind, row in rows.items():
        cells = [f"{row[c]:.4g}" if row.get(c) is not None else "" for c in columns]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "The last validation:\n\n" + "\n".join(lines) + "\n"
