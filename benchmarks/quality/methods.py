"""The list of methods. To add an ablation, add an entry to ``ABLATIONS`` or a ``Recipe`` to ``RECIPES``."""

from __future__ import annotations

from m3gal_cli.errors import InputError
from quality import bm25_methods, sentence_transformers_methods
from quality.evaluation_set import WEIGHT_SETTINGS
from quality.interface import Method
from quality.m3gal_methods import VIEWS_PROFILE, Recipe

# The published recipe with three changes: 2 epochs instead of 30 (so the rate decays after epochs 10 and 20 do not
# occur), batches of 16 queries instead of 64 to fit into a few GB of memory, and bf16 where the device supports it.
# The rest is as published: SGD, the mlp location encoder, the pooler (new weights if the encoder has none), all 39
# negatives of a query.
PUBLISHED = (
    "optim.epochs=2",
    "optim.schedule=[]",
    "optim.batch_size=16",
    "optim.precision=auto",
    "run.published_checkpoint=false",
)
E5_CONVENTIONS = (
    "model.pooling=mean",
    "model.append_sep=true",
    "model.query_prefix='query: '",
    "model.passage_prefix='passage: '",
)
FEW_LABELS = ("optim.epochs=6",)  # two epochs of 50 or 200 queries are too few steps

# Ablations train one model instead of a soup of two, for half the time. Their reference is the row "one training".
ONE_TRAINING = ("optim.soup_size=1",)
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
    Recipe("published, the encoder's own pooling and prefixes", "paper-finetune.yaml", (*PUBLISHED, *E5_CONVENTIONS)),
    Recipe("ours", "geotes.yaml", curve=True, few_labels=FEW_LABELS),
    Recipe("ours, pretrained", "geotes.yaml", views=VIEWS_PROFILE, curve=True, few_labels=FEW_LABELS),
    Recipe("one training", "geotes.yaml", ONE_TRAINING, views=VIEWS_PROFILE),
    *(
        Recipe(f"one training, {name}", "geotes.yaml", (*ONE_TRAINING, *settings), views=VIEWS_PROFILE)
        for name, settings in ABLATIONS.items()
    ),
]

METHODS = [
    Method("bm25", bm25_methods.bm25),
    Method("bm25 + distance", bm25_methods.bm25_distance, lambda options: WEIGHT_SETTINGS),
    Method("zero-shot", sentence_transformers_methods.zero_shot, sentence_transformers_methods.zero_shot_settings),
    Method(
        "sentence-transformers",
        sentence_transformers_methods.finetuned,
        sentence_transformers_methods.finetuned_settings,
        seeded=True,
    ),
    *(Method(r.name, r.run, r.settings, seeded=True, curve=r.curve) for r in RECIPES),
]


def select_methods(names: list[str] | None) -> list[Method]:
    """Return the methods of these names in list order; None: all. Raises InputError for an unknown name."""
    known = {method.name for method in METHODS}
    for name in names or ():
        if name not in known:
            hint = f"Methods: {'; '.join(method.name for method in METHODS)}."
            raise InputError(f"no method {name!r}", where="--methods", hint=hint)
    return [method for method in METHODS if names is None or method.name in names]
