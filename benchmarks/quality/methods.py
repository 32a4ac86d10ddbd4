"""The methods of the table. A new ablation is a new line of ``RECIPES``: a profile, ``--set`` texts, a start."""

from __future__ import annotations

from m3gal_cli.errors import InputError
from quality import baselines, sentence
from quality.board import WEIGHING
from quality.job import Method
from quality.ours import VIEWS_PROFILE, Recipe

# The published recipe, cut to 2 of its 30 epochs (rates fall after the 10th and the 20th: not here) and to batches of
# 16 queries instead of 64, which a few GB of memory hold, and to bf16 where a device has it. All else is as published:
# SGD, the mlp location encoder, the pooled [CLS] (an encoder that comes without its pooler gets a new one), all 39
# negatives of a query.
PUBLISHED = (
    "optim.epochs=2",
    "optim.schedule=[]",
    "optim.batch_size=16",
    "optim.precision=auto",
    "run.published_checkpoint=false",
)

OF_E5 = (
    "model.pooling=mean",
    "model.append_sep=true",
    "model.query_prefix='query: '",
    "model.passage_prefix='passage: '",
)
FEW = ("optim.epochs=6",)  # of 50 or 200 queries, two epochs are too few steps to learn anything

# Ablations are trained once instead of twice, which costs half; what they are compared with is the row of one training.
ONCE = ("optim.soup_size=1",)
ABLATIONS = {
    "text alone": ("optim.loss=text",),
    "one loss for text and place": ("optim.loss=fused", "model.location_weight=1"),
    "mlp location": ("model.location_encoder=mlp",),
    "no other queries' candidates": ("optim.in_batch=false",),
    "temperature .01": ("momentum.temperature=0.01",),
    "temperature .05": ("momentum.temperature=0.05",),
    "half the rate": ("optim.lr=0.00002",),
    "twice the rate": ("optim.lr=0.00008",),
}
RECIPES = [
    Recipe("published", "paper-finetune.yaml", PUBLISHED),
    Recipe("published, the encoder's own pooling and prefixes", "paper-finetune.yaml", (*PUBLISHED, *OF_E5)),
    Recipe("ours", "geotes.yaml", curve=True, few=FEW),
    Recipe("ours, pretrained", "geotes.yaml", views=VIEWS_PROFILE, curve=True, few=FEW),
    Recipe("one training", "geotes.yaml", ONCE, views=VIEWS_PROFILE),
    *(Recipe(f"one training, {n}", "geotes.yaml", (*ONCE, *s), views=VIEWS_PROFILE) for n, s in ABLATIONS.items()),
]

METHODS = [
    Method("bm25", baselines.bm25),
    Method("bm25 + distance", baselines.bm25_distance, lambda options: WEIGHING),
    Method("zero-shot", sentence.zero_shot, sentence.as_it_is),
    Method("sentence-transformers", sentence.finetuned, sentence.settings, seeded=True),
    *(Method(r.name, r.run, r.settings, seeded=True, curve=r.curve) for r in RECIPES),
]


def chosen(names: list[str] | None) -> list[Method]:
    """The methods of these names, in the order of the list; None: all. Raises InputError for a name that none has."""
    known = {method.name: method for method in METHODS}
    for name in names or ():
        if name not in known:
            raise InputError(f"no method {name!r}", hint=f"Methods: {'; '.join(known)}.")
    return [method for method in METHODS if names is None or method.name in names]
