"""The model card of a checkpoint: its README.md, with code that opens each encoder without m3gal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from m3gal_cli.core.bi_encoder import M3gal, count_parameters
from m3gal_cli.core.sentence_transformers_export import is_exportable
from m3gal_cli.core.tokenizer import max_positions

CARD = """\
---
{front_matter}
---

# M3GAL: match place queries to POIs

Three encoders map into one space of {dim} dimensions: `query_encoder` (query texts), `poi_encoder` (POI texts) and
`location_encoder` (POI coordinates). All vectors have length 1. The score of a POI for a query is

    query · (POI text + {weight}POI location)

An index therefore holds one vector per POI, the sum of its two.

Stage: {stage}. Step: {step}. Epoch: {epoch}. Weights: {parameters:,}.

{metrics}
## Use and limits

The model ranks the POIs of a table for a query that a user typed into a map, delivery or ride-hailing search. It is for
the region and the languages of its training data.

- It does not geocode: it returns a POI of the table, never a new coordinate.
- The location score learns which parts of the region a query text refers to. It resolves districts rather than
  buildings, has no meaning outside the region of the training data, and adds little if that region is a whole country.
- The encoders know no opening hours, no popularity and no query location. The reranker uses the query location.
- Ranks are best after reranking, which `m3gal predict` does. The scores of this card's code are first-stage scores.

## Training data, languages and licence

{attribution}

Languages: {languages}

Licence of these weights: {licence}

## Text encoders

The code below runs in this folder. `m3gal predict --checkpoint FOLDER` does the same and more. `m3gal.json` holds all
settings.

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
poi = text_vectors("poi_encoder", {passage_prefix}, ["Harbour Mall, north gate"])
```
{sep}
## Location encoder

`location_encoder/model.safetensors` holds the weights and `config.json` all constants. `online.safetensors` serves only
further pretraining: it is the trained encoder, and the scoring encoder is its moving average. With numpy:

```python
import json
import math

import numpy as np
from safetensors.numpy import load_file

def location_vectors(folder, lng, lat):
    with open(f"{{folder}}/config.json") as file:
        c = json.load(file)
    w, n = load_file(f"{{folder}}/model.safetensors"), c["normalizer"]
    x = (np.asarray(lng, float) - n["lng_mean"]) / n["lng_std"]  # z-scores of degrees, WGS-84
    y = (np.asarray(lat, float) - n["lat_mean"]) / n["lat_std"]
    h = np.stack([x, y], axis=1).astype(np.float32)
{features}    for i, name in enumerate(c["layers"]):
        if i:
            h = {activation}
        h = h @ w[f"{{name}}.weight"].T + w[f"{{name}}.bias"]
    return h / np.linalg.norm(h, axis=1, keepdims=True)

location = location_vectors("location_encoder", [{lng:.4f}], [{lat:.4f}])
```
"""

SENTENCE = """\
With sentence-transformers (truncation, pooling, prefix and normalisation are part of the folders):

```python
from sentence_transformers import SentenceTransformer

query = SentenceTransformer("query_encoder").encode(["north gate of the harbour mall"])
poi = SentenceTransformer("poi_encoder").encode(["Harbour Mall, north gate"])
```
"""
NO_SENTENCE = "sentence-transformers has no module for this encoder's pooler: use the code below.\n"
NO_SEP = "\nThe token ids end without [SEP]: the tokenizers in these folders do not add it.\n"
SLOW_NO_SEP = "\nThe token ids must end without [SEP]. This kind of tokenizer always adds it: remove it from the ids.\n"
POOLED = {
    "mean": "(out.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)",
    "cls": "out.last_hidden_state[:, 0]",
    "pooler": "out.pooler_output",
}
FEATURES = """\
    # Sines and cosines of phases. The model computes them in float32, where 1,000 turns have an error of a thousandth.
    metres = c["metres_per_degree"] * np.array([n["lng_std"] * math.cos(math.radians(n["lat_mean"])), n["lat_std"]])
    angles = np.radians(c["directions_deg"])
    along = (h * metres) @ np.stack([np.cos(angles), np.sin(angles)])
    phase = (along[:, :, None] * (2 * np.pi / np.array(c["wavelengths_m"]))).reshape(len(h), -1)
    h = np.concatenate([np.sin(phase), np.cos(phase), h], axis=1)
"""
ACTIVATIONS = {"mlp": "np.maximum(h, 0)", "fourier": "h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2"}
UNKNOWN_ATTRIBUTION = (
    "The sources of the training data were not recorded. Check their licences and credit them where you show results; "
    "the credit line of OpenStreetMap is “© OpenStreetMap contributors, ODbL 1.0”."
)
UNKNOWN_LICENCE = "not stated. The licences of the text encoder and of the training data apply."
METRICS_START, METRICS_END = "<!-- metrics -->\n", "<!-- end of metrics -->\n"


@dataclass(frozen=True)
class TrainingData:
    """Facts about the training data that the model card states.

    Args:
        attribution: Credit lines of the sources, such as "© OpenStreetMap contributors, ODbL 1.0".
        languages: ISO 639-1 codes, such as "zh".
        licence: Licence of the weights as model hubs name it, such as "odbl"; None: not stated.
    """

    attribution: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    licence: str | None = None

    @classmethod
    def from_json(cls, row: Any) -> TrainingData:
        """Return the value of a JSON object; None, as in older checkpoints, gives the defaults."""
        row = row or {}
        return cls(tuple(row.get("attribution", ())), tuple(row.get("languages", ())), row.get("licence"))

    def joined(self, later: TrainingData) -> TrainingData:
        """Return the facts of a model that is trained on these data and then on ``later``."""
        attribution = tuple(dict.fromkeys(self.attribution + later.attribution))
        languages = tuple(dict.fromkeys(self.languages + later.languages))
        return TrainingData(attribution, languages, later.licence or self.licence)


def model_card(model: M3gal, tokenizer: Any, meta: dict[str, Any]) -> str:
    """Return the model card as Markdown with the YAML front matter of model hubs; ``meta`` is that of m3gal.json."""
    settings, encoder = model.settings, model.encoder_q
    kind = settings.location_encoder
    no_sep = SLOW_NO_SEP if getattr(tokenizer, "backend_tokenizer", None) is None else NO_SEP
    data = TrainingData.from_json(meta.get("data"))
    return CARD.format(
        front_matter=_front_matter(data),
        dim=model.dim,
        weight="" if settings.location_weight == 1.0 else f"{settings.location_weight:g} × ",
        stage=meta["stage"] or "not trained",
        step=meta["step"],
        epoch=meta["epoch"],
        parameters=count_parameters(model),
        metrics=METRICS_START + _metrics_table(meta["metrics"]) + METRICS_END,
        attribution="\n".join(f"- {line}" for line in data.attribution) or UNKNOWN_ATTRIBUTION,
        languages=", ".join(data.languages) or "those of the training data (not recorded).",
        licence=data.licence or UNKNOWN_LICENCE,
        sentence=SENTENCE if is_exportable(encoder) else NO_SENTENCE,
        length=min(settings.max_length, max_positions(encoder.text_encoder.config)),
        pooled=POOLED[settings.pooling],
        query_prefix=json.dumps(settings.query_prefix, ensure_ascii=False),
        passage_prefix=json.dumps(settings.passage_prefix, ensure_ascii=False),
        sep="" if settings.append_sep else no_sep,
        features=FEATURES if kind == "fourier" else "",
        activation=ACTIVATIONS[kind],
        lng=settings.normalizer.lng_mean,
        lat=settings.normalizer.lat_mean,
    )


def with_metrics(card: str, metrics: dict[str, float]) -> str:
    """Return the card with the table of these metrics in place of its own."""
    before, start, rest = card.partition(METRICS_START)
    _, end, after = rest.partition(METRICS_END)
    return before + start + _metrics_table(metrics) + end + after if end else card


def _front_matter(data: TrainingData) -> str:
    """Return the metadata that model hubs read, as YAML."""
    codes = ", ".join(json.dumps(code) for code in data.languages)  # quoted: YAML reads the code no as a boolean
    lines = [
        f"license: {data.licence or 'unknown'}",
        *([f"language: [{codes}]"] if codes else []),
        "pipeline_tag: sentence-similarity",
        "tags: [sentence-transformers, feature-extraction, geographic-retrieval, m3gal]",
    ]
    return "\n".join(lines)


def _metrics_table(metrics: dict[str, float] | None) -> str:
    """Return a table of metrics such as ``fused.recall@1``: one row per score, one column per metric."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in (metrics or {}).items():
        score, _, metric = name.partition(".")
        rows.setdefault(score if metric else "", {})[metric or score] = value
    if not rows:
        return ""
    columns = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    lines = ["| score | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for score, row in rows.items():
        cells = ["" if (v := row.get(c)) is None else f"{v:,.0f}" if v >= 1000 else f"{v:.4g}" for c in columns]
        lines.append(f"| {score} | " + " | ".join(cells) + " |")
    note = " `m3gal predict` answers by the reranked score." if "reranked" in rows else ""
    return f"Metrics of the last validation.{note}\n\n" + "\n".join(lines) + "\n"
