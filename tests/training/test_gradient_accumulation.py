"""A batch taken in parts, or with activations computed again, trains as the plain step does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from m3gal_cli.core.checkpoint import load_checkpoint
from tests.helpers.cli import m3gal, steps
from tests.helpers.sample_town import write_town

EXACT = ("--set", "model.scratch.dropout=0", "--set", "optim.name=sgd", "--lr", 0.3, "--max-steps", 6)
STAGES = {"pretrain": ["--loss", "fused"], "finetune": ["--batch-size", 6, "--set", "optim.in_batch=true"]}
WAYS = {
    "two parts": ["--accumulate", 2],
    "uneven parts": ["--accumulate", 5],
    "more parts than rows": ["--accumulate", 99],
    "one text at a time": ["--encode-chunk", 1],
    "chunks": ["--encode-chunk", 3],
    "both": ["--accumulate", 2, "--encode-chunk", 3],
}


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("parts"))


def train(profile: Path, stage: str, name: str, *more: object) -> Path:
    runs = profile.parent / "runs"
    given = ("--config", profile, "--runs-dir", runs, "--output-name", f"{stage} {name}", *EXACT, *STAGES[stage])
    return m3gal(stage, *given, *more).run


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("stage", list(STAGES))
def test_the_same_losses_and_weights(profile: Path, stage: str, way: str) -> None:
    apart = ["--set", "optim.in_batch=false"] if stage == "finetune" and "--accumulate" in WAYS[way] else []
    plain, own = train(profile, stage, f"plain for {way}", *apart), train(profile, stage, way, *WAYS[way], *apart)
    assert len(steps(own)) == 6
    for row, wanted in zip(steps(own), steps(plain), strict=True):
        for kind in ("text_loss", "location_loss", "fused_loss", "grad_norm", "queue_accuracy"):
            assert row[kind] == pytest.approx(wanted[kind], abs=1e-5, rel=1e-5), (row["step"], kind)
    weights = [load_checkpoint(run / "last", with_trainer=True) for run in (own, plain)]
    for name, value in weights[1].model.state_dict().items():
        torch.testing.assert_close(weights[0].model.state_dict()[name], value, atol=1e-5, rtol=1e-6)
    if stage == "pretrain":
        queues = [checkpoint.trainer["queue"] for checkpoint in weights if checkpoint.trainer]
        for name, value in queues[1].items():
            torch.testing.assert_close(queues[0][name], value, atol=1e-5, rtol=0)


def test_parts_of_a_batch_whose_rows_meet_are_refused(profile: Path) -> None:
    given = ("--config", profile, "--accumulate", 2, "--set", "optim.in_batch=true")
    answer = m3gal("finetune", *given)
    assert answer.code == 2
    assert "optim.encode_chunk" in answer.err


def test_activations_of_one_chunk_are_held(profile: Path) -> None:
    """What autograd keeps for backward: with chunks of 2, little more than a tenth of what the plain pass keeps."""
    from m3gal_cli.core.tokenizer import TextTokenizer
    from tests.helpers.toy_models import TEXTS, toy_checkpoint

    checkpoint = toy_checkpoint()
    encoder = checkpoint.model.encoder_q.train()
    table = TextTokenizer(checkpoint.tokenizer, checkpoint.model.settings, 512)(TEXTS * 20)

    def kept(limit: int | None) -> int:
        held: dict[int, int] = {}
        own = {p.untyped_storage().data_ptr() for p in encoder.parameters()}

        def pack(x: torch.Tensor) -> torch.Tensor:
            if x.untyped_storage().data_ptr() not in own:
                held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        batch = table.batch(range(len(table)), torch.device("cpu"), limit)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            encoder.encode(batch, recompute=limit is not None)
        return sum(held.values())

    assert kept(2) < 0.15 * kept(None)
