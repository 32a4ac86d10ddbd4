"""Finetuning's own parts: the candidates of a query, who counts as right and how often, parameter groups."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from m3gal_cli.config.load import load_config
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.tokenizer import TextTokenizer
from m3gal_cli.data.records import Passage, PoiKey, Record, read_records
from m3gal_cli.training.initial_model import TrainingTable, new_model
from m3gal_cli.training.objectives.candidate_ranking import FinetuneTask
from tests.helpers.sample_town import record, write_lines, write_town

A, B, C, D = (Passage(f"cafe {letter}", 24.9 + i / 100, 60.1) for i, letter in enumerate("abcd"))
A_ELSEWHERE = Passage("cafe a", 25.5, 60.3)  # reads like A
A_AGAIN = Passage(" cafe a ", 24.9, 60.1)  # is A

# several positives; gold among the negatives; a negative twice; a positive twice; one reading, two places; no negative
RECORDS = [
    Record("one", [A], [B, C, D]),
    Record("two", [A, B], [C, A, C, D, A_AGAIN]),
    Record("three", [C, C], [A, D]),
    Record("four", [A_ELSEWHERE], [A, B]),
    Record("five", [D], []),
    Record("six", [B], [D, D, D, A, C]),
]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_town(tmp_path_factory.mktemp("finetune"))


def made(profile: Path, records: list[Record], **settings: Any) -> tuple[Checkpoint, FinetuneTask]:
    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    config = load_config(str(profile), {"model.scratch.dropout": 0.0} | overrides)
    passages = [p for r in records for p in r.passages]
    table = TrainingTable(
        np.array([p.lng for p in passages]), np.array([p.lat for p in passages]), [p.text for p in passages]
    )
    checkpoint = new_model(config, table)
    tokenize = TextTokenizer(checkpoint.tokenizer, checkpoint.model.settings, 512)
    return checkpoint, FinetuneTask(checkpoint.model, tokenize, records, config)


def distinct(passages: list[Passage]) -> list[Passage]:
    return list({p.key: p for p in passages}.values())


def numbers_of(task: FinetuneTask, records: list[Record]) -> dict[PoiKey, int]:
    """The task's number of every passage, found by what it reads and where it is."""
    found = {(task.reading[n], *task.z[n].tolist()): n for n in range(len(task.reading))}
    known = distinct([p for r in records for p in r.passages])
    assert len(found) == len(known) == len(task.passage_rows), "a passage is tokenised once"
    z = task.model.settings.normalizer([p.lng for p in known], [p.lat for p in known])
    return {p.key: found[p.text.strip(), *row] for p, row in zip(known, z.tolist(), strict=True)}


def test_every_candidate_by_default(profile: Path) -> None:
    """Distinct positives first, then the negatives as often as listed, without those that are positives."""
    _, task = made(profile, RECORDS)
    numbers = numbers_of(task, RECORDS)
    for row, own in enumerate(RECORDS):
        gold = list(dict.fromkeys(numbers[p.key] for p in own.positives))
        wanted = gold + [numbers[p.key] for p in own.negatives if numbers[p.key] not in gold]
        assert task.candidates(row) == wanted
    assert task.rows == len(RECORDS)
    assert len(numbers) == 5


@pytest.mark.parametrize("limit", [0, 1, 3, 4, 40])
def test_drawn_negatives(profile: Path, limit: int) -> None:
    """All positives and ``limit`` of the negatives, none drawn twice, in file order; others in another epoch."""
    pool = [Passage(f"cafe {i}", 24.9 + i / 100, 60.1) for i in range(12)]
    _, task = made(profile, [Record("q", pool[:2], pool[2:])], optim__negatives=limit)
    drawn = set()
    for epoch in range(60):
        task.start_epoch(epoch)
        own = task.candidates(0)
        assert own == task.candidates(0), "an epoch keeps its draw"
        assert own[:2] == [0, 1]
        assert sorted(set(own[2:])) == own[2:], "once each, in file order"
        assert len(own) == 2 + min(limit, 10)
        assert set(own[2:]) <= set(range(2, 12))
        drawn |= set(own[2:])
    assert drawn == (set(range(2, 12)) if limit else set()), "in time every negative is drawn"


def test_the_draw_depends_on_seed_epoch_and_row_alone(profile: Path) -> None:
    pool = [Passage(f"cafe {i}", 24.9 + i / 100, 60.1) for i in range(30)]
    records = [Record("q", pool[:1], pool[1:])] * 2
    _, task = made(profile, records, optim__negatives=8)
    first = task.candidates(0)
    assert first != task.candidates(1)
    task.start_epoch(1)
    assert first != task.candidates(0)
    np.random.seed(5)
    _, again = made(profile, records, optim__negatives=8)
    again.start_epoch(0)
    assert again.candidates(0) == first
    _, other = made(profile, records, optim__negatives=8, seed=8)
    assert other.candidates(0) != first


def losses_by_definition(
    task: FinetuneTask,
    checkpoint: Checkpoint,
    records: list[Record],
    rows: list[int],
    in_batch: bool,
    heat: float,
) -> dict[str, float]:
    """-log(positive share of the softmax) over the own candidates (as often as listed) and, in batch, all others once.

    Others that read as a positive does take no part.
    """
    model = checkpoint.model.eval()

    def texts(embed: Any, lines: list[str]) -> Tensor:
        rows_ = task.tokenize(lines)
        out: Tensor = embed(*rows_.pad())
        return out

    sums = {"text": 0.0, "location": 0.0, "fused": 0.0}
    everyone = distinct([p for row in rows for p in records[row].passages])
    with torch.no_grad():
        for row in rows:
            record_ = records[row]
            positives = distinct(record_.positives)
            own = positives + [p for p in record_.negatives if p.key not in record_.gold]
            if in_batch:
                known = {p.key for p in own}
                readings = {p.text.strip() for p in positives}
                own += [p for p in everyone if p.key not in known and p.text.strip() not in readings]
            q = texts(model.embed_query, [record_.query])[0]
            text = texts(model.embed_poi_text, [p.text for p in own]) @ q / heat
            z = model.settings.normalizer([p.lng for p in own], [p.lat for p in own])
            place = model.embed_poi_location(torch.from_numpy(z)) @ q / heat
            for kind, logits in (("text", text), ("location", place), ("fused", text + place)):
                share = torch.softmax(logits.double(), 0)[: len(positives)].sum().item()
                sums[kind] -= math.log(share) / len(rows)
    return sums


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("rows", [[0], [1], [0, 1], [1, 2, 3], [4, 2], [5, 4, 3, 2, 1, 0]], ids=str)
def test_losses_against_the_definition(profile: Path, rows: list[int], in_batch: bool) -> None:
    checkpoint, task = made(profile, RECORDS, optim__in_batch=in_batch, momentum__temperature=0.3)
    checkpoint.model.eval()
    found = task.step(checkpoint.model, np.array(rows), torch.device("cpu"))
    wanted = losses_by_definition(task, checkpoint, RECORDS, rows, in_batch, 0.3)
    assert {name: value.item() for name, value in found._asdict().items()} == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_masks_against_brute_force(profile: Path, in_batch: bool, seed: int) -> None:
    """Random records over few texts and few places, with repeats: every cell by its own rule."""
    random = np.random.default_rng(seed)
    pool = [Passage(f"cafe {t}", 24.9 + x / 100, 60.1) for t in range(4) for x in range(2)]
    records = []
    for i in range(6):
        positives = [pool[j] for j in random.integers(0, len(pool), random.integers(1, 4))]
        records.append(Record(f"q{i}", positives, [pool[j] for j in random.integers(0, len(pool), 6)]))
    _, task = made(profile, records, optim__in_batch=in_batch)
    rows = random.permutation(6)[:4]
    lists = [task.candidates(int(row)) for row in rows]
    chosen = list(dict.fromkeys(c for own in lists for c in own))
    positive, count = task._masks(rows, lists, chosen)
    keys = {n: key for key, n in numbers_of(task, records).items()}
    assert positive.shape == count.shape == (4, len(chosen))
    for i, row in enumerate(rows):
        own = records[int(row)]
        for j, number in enumerate(chosen):
            gold = keys[number] in own.gold
            listed = sum(p.key == keys[number] for p in own.negatives)
            stranger = in_batch and keys[number][0] not in {p.text.strip() for p in own.positives}
            assert bool(positive[i, j]) == gold
            assert count[i, j] == (1 if gold else listed or float(stranger)), (i, j)


def test_groups(profile: Path) -> None:
    """Location first: the key location encoder; text: query and key encoder, apart from their unused poolers."""
    checkpoint, task = made(profile, RECORDS, optim__lr=0.5, optim__location_lr=0.25, optim__weight_decay=0)
    location, text = task.groups()
    assert [(g.name, g.lr, g.weight_decay) for g in (location, text)] == [("location", 0.25, 1e-4), ("text", 0.5, 0)]
    named = dict(checkpoint.model.named_parameters())
    wanted = {n for n in named if n.startswith(("encoder_q.", "encoder_k.")) and ".pooler." not in n}
    assert {id(p) for p in text.parameters} == {id(named[n]) for n in wanted}
    wanted_location = {id(p) for n, p in named.items() if n.startswith("gc_encoder_shadow.")}
    assert {id(p) for p in location.parameters} == wanted_location
    task.step(checkpoint.model, np.arange(4), torch.device("cpu")).fused.backward()
    for name, p in named.items():
        assert (p.grad is not None) == (name in wanted or name.startswith("gc_encoder_shadow.")), name


def test_freezing_words_keeps_both_tables(profile: Path) -> None:
    checkpoint, task = made(profile, RECORDS, optim__freeze=["word_embeddings"])
    chosen = {id(p) for g in task.groups() for p in g.parameters}
    frozen = [n for n, p in checkpoint.model.named_parameters() if id(p) not in chosen and "word_embeddings" in n]
    assert len(frozen) == 2
    assert not any(checkpoint.model.get_parameter(n).requires_grad for n in frozen)


def test_texts_are_cut_at_max_words(profile: Path, tmp_path: Path) -> None:
    """Cut at 6 characters, "cafe north" and "cafe nowhere" are the same text."""
    rows = [record(0, query="cafe north street"), record(1)]
    records = read_records(write_lines(tmp_path / "r.jsonl", rows))
    _, cut = made(profile, records, data__max_words=6)
    _, full = made(profile, records)
    assert [r.tolist() for r in cut.query_rows] == [r.tolist() for r in full.tokenize(["cafe n", rows[1]["query"][:6]])]
    wanted = full.tokenize([p["text"][:6] for p in [*rows[0]["positive_passages"], *rows[0]["negative_passages"]]])
    assert [r.tolist() for r in list(cut.passage_rows)[:6]] == [r.tolist() for r in wanted]
