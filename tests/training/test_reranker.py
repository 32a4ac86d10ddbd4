"""Training of a cross-encoder: its loss and its candidates against loops, mined negatives, resume, learning."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import m3gal, steps, validations
from town import record, write_lines, write_town
from toy import ToyEmbedder

from m3gal_cli.config.load import load_config
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.core.cross_checkpoint import CrossCheckpoint, load_cross
from m3gal_cli.data.reading import reads
from m3gal_cli.data.records import Passage, Record
from m3gal_cli.errors import InputError
from m3gal_cli.retrieval.cross import CrossScorer
from m3gal_cli.training.assemble import cross_checkpoint
from m3gal_cli.training.loop import Interrupted, Quiet
from m3gal_cli.training.mining import with_mined
from m3gal_cli.training.reranker import RerankerTask
from m3gal_cli.training.stages import Start, run_reranker

CPU = torch.device("cpu")
A, B, C, D = (Passage(f"cafe {letter}", 24.9 + i / 100, 60.1) for i, letter in enumerate("abcd"))
A_ELSEWHERE, A_ALIKE = Passage("cafe a", 25.5, 60.3), Passage("Cafe, A", 25.0, 60.2)

# several positives; gold and what reads like it among the negatives; a negative twice; no negative
RECORDS = [
    Record("one", [A], [B, C, D]),
    Record("two", [A, B], [C, A, C, D, A_ELSEWHERE, A_ALIKE]),
    Record("three", [C, C], [A, A_ELSEWHERE, D]),
    Record("four", [D], []),
    Record("five", [A_ALIKE], [A, B]),
]
CANDIDATES = [[A, B, C, D], [A, B, C, D], [C, A, D], [D], [A_ALIKE, B]]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_town(tmp_path_factory.mktemp("reranker"))


def made(profile: Path, records: list[Record], **settings: Any) -> tuple[CrossCheckpoint, RerankerTask]:
    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    config = load_config(str(profile), {"model.scratch.dropout": 0.0} | overrides)
    checkpoint = cross_checkpoint(None, config, [t for r in records for t in (r.query, *(p.text for p in r.passages))])
    return checkpoint, RerankerTask(checkpoint, records, config)


def test_candidates(profile: Path) -> None:
    """Positives, then each reading among the negatives once, without those of the positives."""
    _, task = made(profile, RECORDS)
    for row, wanted in enumerate(CANDIDATES):
        assert [task.lists.passages[c] for c in task.lists.drawn(row, 0, None, 7)] == wanted
    assert task.rows == len(RECORDS)


def test_drawn_negatives(profile: Path) -> None:
    pool = [Passage(f"cafe {i}", 24.9 + i / 100, 60.1) for i in range(12)]
    seen = set()
    _, task = made(profile, [Record("q", pool[:2], pool[2:])])
    for epoch in range(60):
        own = task.lists.drawn(0, epoch, 3, 7)
        assert own[:2] == [0, 1]
        assert len(set(own[2:])) == 3
        seen |= set(own[2:])
    assert seen == set(range(2, 12))


@pytest.mark.parametrize("rows", [[0], [1], [3], [0, 1, 2, 3, 4], [4, 2, 1]], ids=str)
@pytest.mark.parametrize("chunk", [None, 2])
def test_the_loss_against_the_definition(profile: Path, rows: list[int], chunk: int | None) -> None:
    """-log of the share of the softmax over a query's candidates that falls on its positives."""
    checkpoint, task = made(profile, RECORDS, optim__encode_chunk=chunk)
    checkpoint.model.eval()
    found = task.step(checkpoint.model, np.array(rows), CPU)
    scorer, wanted, right = CrossScorer(checkpoint), 0.0, 0
    for row in rows:
        values = scorer.scores([(RECORDS[row].query, p.text) for p in CANDIDATES[row]]).astype(np.float64)
        count = len({p.key for p in RECORDS[row].positives})
        share = np.exp(values - values.max())
        wanted -= math.log(share[:count].sum() / share.sum()) / len(rows)
        right += count == len(values) or values[:count].max() > values[count:].max()
    assert found.cross.item() == pytest.approx(wanted, abs=1e-5)
    assert task.monitor["queue_accuracy"].item() == pytest.approx(right / len(rows))
    tokens = sum(len(task.tokenize([(RECORDS[r].query, p.text)])[0]) for r in rows for p in CANDIDATES[r])
    assert task.monitor["tokens"].item() == tokens


def test_groups(profile: Path) -> None:
    """All that the loss reaches is trained, the frozen words and the unused pooler are not."""
    checkpoint, task = made(profile, RECORDS, optim__lr=0.5, optim__freeze=["word_embeddings"])
    [group] = task.groups()
    assert (group.name, group.lr) == ("text", 0.5)
    task.step(checkpoint.model, np.arange(5), CPU).cross.backward()
    named = dict(checkpoint.model.named_parameters())
    chosen = {n for n, p in named.items() if any(p is q for q in group.parameters)}
    assert chosen == {n for n, p in named.items() if p.grad is not None}
    assert set(named) - chosen == {n for n in named if "word_embeddings" in n or ".pooler." in n}


def test_texts_are_cut_at_max_words(profile: Path) -> None:
    _, task = made(profile, [Record("north gate", [A], [Passage("cafe north", 24.0, 60.0)])], data__max_words=6)
    assert (task.queries, task.passages) == (["north "], ["cafe a", "cafe n"])


def test_candidates_of_the_batch_are_refused(profile: Path) -> None:
    with pytest.raises(InputError, match="in_batch"):
        made(profile, RECORDS, optim__in_batch=True)


@pytest.mark.parametrize("most", [0, 2, 5, 100])
def test_mined_negatives_against_a_sort(most: int) -> None:
    """The best by fused score of all passages; nothing that reads like a positive or lies where it does."""
    random, embedder = np.random.default_rng(5), ToyEmbedder(6, 2)
    texts = [f"cafe {i}" for i in range(6)] + ["Cafe 1", "cafe, 2"]
    pool = [Passage(t, 24.9 + x / 100, 60.1) for t in texts for x in range(3)]
    records = []
    for i in range(20):
        chosen = [pool[j] for j in random.permutation(len(pool))[:6]]
        records.append(Record(f"q{i}", chosen[: 1 + i % 2], chosen[1 + i % 2 :]))
    sides = [*(r.positives for r in records), *(r.negatives for r in records)]
    everyone = list({p.key: p for side in sides for p in side}.values())
    for before, after in zip(records, with_mined(records, embedder, most=most), strict=True):
        q = embedder.queries([before.query])[0]
        k = embedder.poi_texts([p.text for p in everyone]) + embedder.locations(
            [p.lng for p in everyone], [p.lat for p in everyone]
        )
        gold = before.positives
        fit = [
            (-float(q @ k[i]), i, p)
            for i, p in enumerate(everyone)
            if reads(p.text) not in {reads(g.text) for g in gold}
            and (p.lng, p.lat) not in {(g.lng, g.lat) for g in gold}
        ]
        assert 0 < len(fit) < len(everyone) - len(gold)
        wanted = {p.key for _, _, p in sorted(fit)[:most]} - {p.key for p in before.passages}
        assert after.negatives[: len(before.negatives)] == before.negatives
        assert {p.key for p in after.negatives[len(before.negatives) :]} == wanted
        assert len(after.negatives) == len(before.negatives) + len(wanted)
        assert (after.query, after.positives) == (before.query, before.positives)


def train(profile: Path, name: str, listener: Any, resume: str | None = None, *sets: str) -> Path:
    own = ["optim.batch_size=4", "optim.negatives=3", "optim.decay=linear", "optim.warmup=0.2", *sets]
    config = load_config(str(profile), {}, [*own, f"run.dir={profile.parent}/runs", f"run.name={name}"])
    return run_reranker(config, Start(resume), listener).path


class Stopper(Quiet):
    def __init__(self, at: int) -> None:
        self.at = at

    def advance(self, done: int) -> None:
        if done == self.at:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("stop", [1, 6, 8], ids=["first step", "within", "epoch's end"])
def test_a_stopped_and_resumed_run_is_the_run_that_never_stopped(profile: Path, stop: int) -> None:
    whole = profile.parent / "runs" / "whole"
    if not whole.exists():
        train(profile, "whole", Quiet())
    with pytest.raises(Interrupted):
        train(profile, f"stop-{stop}", Stopper(stop))
    run = train(profile, f"stop-{stop}", Quiet(), "auto")
    assert [row["step"] for row in steps(run)] == list(range(1, 13))
    for own, wanted in zip(steps(run), steps(whole), strict=True):
        assert all(own[name] == wanted[name] for name in ("cross_loss", "lr", "grad_norm", "queue_accuracy"))
    assert [row["metrics"] for row in validations(run)] == [row["metrics"] for row in validations(whole)]
    saved = [load_cross(path / "last", with_trainer=True) for path in (run, whole)]
    for own, wanted in zip(*(c.model.state_dict().values() for c in saved), strict=True):
        assert torch.equal(own, wanted)
    assert saved[0].trainer is not None
    assert saved[1].trainer is not None
    assert torch.equal(saved[0].trainer["rng"], saved[1].trainer["rng"])
    assert (run / "best").resolve().name == (whole / "best").resolve().name
    assert (run / "report.html").is_file()


def test_it_learns_a_few_records_by_heart(tmp_path: Path) -> None:
    """Wrong at first, all right in the end, and it says so of the records it has learned."""
    profile = write_town(tmp_path)
    rows = write_lines(tmp_path / "few.jsonl", [record(i) for i in range(6)])
    sets = [f"data.train={rows}", f"data.val={rows}", "optim.epochs=40", "run.validate_every=20", "optim.lr=0.02"]
    sets += ["optim.batch_size=6", "optim.negatives=5", "model.scratch.dropout=0"]
    run = train(profile, "few", Quiet(), None, *sets)
    assert validations(run)[-1]["metrics"]["cross"]["recall@1"] == 1.0
    first, last = steps(run)[0], steps(run)[-1]
    assert first["cross_loss"] > 1
    assert last["cross_loss"] < 0.2
    assert last["queue_accuracy"] == 1


def test_a_bi_encoder_is_a_start(profile: Path) -> None:
    """Its query encoder's weights and tokenizer, and none of the trainer's state."""
    runs = profile.parent / "runs"
    given = ("--config", profile, "--runs-dir", runs, "--batch-size", 4, "--max-steps", 0)
    bi = m3gal("finetune", *given, "--output-name", "bi").run
    wanted, found = load_checkpoint(bi / "best"), []
    for name, option in (("one", "--init"), ("two", "--resume")):
        run = m3gal("finetune", "--reranker", *given, "--output-name", name, option, bi).run
        found.append(load_cross(run / "last", with_trainer=True))
        own = found[-1].model.text_encoder.state_dict()
        for weight, value in wanted.model.encoder_q.text_encoder.state_dict().items():
            assert torch.equal(own[weight], value), weight
        assert found[-1].tokenizer("a", "b")["input_ids"] == wanted.tokenizer("a", "b")["input_ids"]
        assert found[-1].model.settings.types
        assert found[-1].trainer is not None
        assert found[-1].trainer["position"]["step"] == 0
    more = m3gal("finetune", "--reranker", *given, "--output-name", "more", "--init", runs / "one").run
    assert torch.equal(load_cross(more / "last").model.score.weight, found[0].model.score.weight)
