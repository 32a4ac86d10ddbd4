"""A batch processed in parts, or with recomputed activations, trains as the whole batch does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.core.tokenizer import TextTokenizer
from tests.helpers.cli import steps
from tests.helpers.sample_town import train
from tests.helpers.toy_models import TEXTS, toy_checkpoint

EXACT = ("--set", "model.scratch.dropout=0", "--set", "optim.name=sgd", "--lr", 0.3, "--max-steps", 3)
IN_BATCH = ("--set", "optim.in_batch=true")
BASES = {"pretrain": (), "finetune": ("--batch-size", 6), "finetune in batch": ("--batch-size", 6, *IN_BATCH)}
# accumulation excludes in-batch negatives
CASES = [
    ("pretrain", ("--accumulate", 5)),
    ("pretrain", ("--accumulate", 2, "--encode-chunk", 3)),
    ("finetune", ("--accumulate", 4, "--encode-chunk", 3)),
    ("finetune in batch", ("--encode-chunk", 1)),
]


@pytest.fixture(scope="module")
def whole(profile: Path) -> dict[str, Path]:
    """Runs that process each batch at once."""
    return {base: train(base.split(maxsplit=1)[0], profile, base, *EXACT, *more).run for base, more in BASES.items()}


@pytest.mark.parametrize(("base", "options"), CASES)
def test_parts_give_the_losses_and_weights_of_the_whole_batch(
    profile: Path, whole: dict[str, Path], base: str, options: tuple[object, ...]
) -> None:
    name = f"{base} {' '.join(map(str, options))}"
    own = train(base.split(maxsplit=1)[0], profile, name, *EXACT, *BASES[base], *options).run
    assert len(steps(own)) == 3
    for row, wanted in zip(steps(own), steps(whole[base]), strict=True):
        for key in ("text_loss", "location_loss", "fused_loss", "grad_norm", "queue_accuracy"):
            assert row[key] == pytest.approx(wanted[key], abs=1e-5, rel=1e-5), (row["step"], key)
    checkpoints = [load_checkpoint(run / "last", with_trainer=True) for run in (own, whole[base])]
    states = [c.model.state_dict() for c in checkpoints]
    states = [s | (c.trainer or {}).get("queue", {}) for s, c in zip(states, checkpoints, strict=True)]
    torch.testing.assert_close(*states, atol=1e-5, rtol=1e-6)


def test_only_the_activations_of_one_chunk_are_kept() -> None:
    """Chunks of 2 of 100 texts: autograd keeps little more than a tenth of the bytes of the whole pass."""
    checkpoint = toy_checkpoint()
    encoder = checkpoint.model.encoder_q.train()
    table = TextTokenizer(checkpoint.tokenizer, checkpoint.model.settings, 512)(TEXTS * 20)
    parameters = {p.untyped_storage().data_ptr() for p in encoder.parameters()}

    def kept_bytes(chunk: int | None) -> int:
        kept: dict[int, int] = {}

        def pack(x: torch.Tensor) -> torch.Tensor:
            storage = x.untyped_storage()
            if storage.data_ptr() not in parameters:
                kept[storage.data_ptr()] = storage.nbytes()
            return x

        batch = table.batch(range(len(table)), torch.device("cpu"), chunk)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            encoder.encode(batch, recompute=chunk is not None)
        return sum(kept.values())

    assert kept_bytes(2) < 0.15 * kept_bytes(None)
