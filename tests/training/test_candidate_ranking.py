"""Candidate ranking: candidate lists, masks, losses and parameter groups."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3gal_cli.config.load import load_config
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.tokenizer import TextTokenizer
from m3gal_cli.data.records import Passage, Record
from m3gal_cli.training.initial_model import new_model
from m3gal_cli.training.objectives.candidate_ranking import CandidateRanking

A, B, C, D = (Passage(f"cafe {letter}", 24.9 + i / 100, 60.1) for i, letter in enumerate("abcd"))
A_ELSEWHERE = Passage("cafe a", 25.5, 60.3)  # the text of A at another place
A_AGAIN = Passage(" cafe a ", 24.9, 60.1)  # the same passage as A

# several positives; gold among the negatives; a repeated negative; a repeated positive; one text at two places;
# no negative
RECORDS = [
    Record("one", [A], [B, C, D]),
    Record("two", [A, B], [C, A, C, D, A_AGAIN]),
    Record("three", [C, C], [A, D]),
    Record("four", [A_ELSEWHERE], [A, B]),
    Record("five", [D], []),
    Record("six", [B], [D, D, D, A, C]),
]


def make_objective(profile: Path, records: list[Record], **settings: Any) -> tuple[Checkpoint, CandidateRanking]:
    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    config = load_config(str(profile), {"model.scratch.dropout": 0.0} | overrides)
    passages = [p for r in records for p in r.passages]
    lng, lat = np.array([(p.lng, p.lat) for p in passages]).T
    checkpoint = new_model(config, lng, lat, [p.text for p in passages])
    tokenize = TextTokenizer(checkpoint.tokenizer, checkpoint.model.settings, 512)
    return checkpoint, CandidateRanking(checkpoint.model, tokenize, records, config)


def distinct(passages: list[Passage]) -> list[Passage]:
    return list({p.key: p for p in passages}.values())


@pytest.mark.parametrize("limit", [0, 3, 40])
def test_every_epoch_samples_other_negatives_without_repetition(profile: Path, limit: int) -> None:
    pool = [Passage(f"cafe {i}", 24.9 + i / 100, 60.1) for i in range(12)]
    _, objective = make_objective(profile, [Record("q", pool[:2], pool[2:])] * 2, optim__negatives=limit)
    samples, of_the_other_row = [], []
    for epoch in range(40):
        objective.start_epoch(epoch)
        own = objective.candidates(0)
        assert objective.candidates(0) == own
        of_the_other_row.append(objective.candidates(1)[2:])
        assert own[:2] == [0, 1]
        assert sorted(set(own[2:])) == own[2:], "each once, in file order"
        assert len(own) == 2 + min(limit, 10)
        samples.append(own[2:])
    assert set().union(*samples) == (set(range(2, 12)) if limit else set()), "every negative is sampled in some epoch"
    assert (of_the_other_row != samples) == (limit == 3)


def losses_by_definition(
    objective: CandidateRanking, checkpoint: Checkpoint, rows: list[int], in_batch: bool, temperature: float
) -> dict[str, float]:
    """Return the mean of -log(share of the positives in the softmax), query by query.

    The softmax has the query's candidates, as often as listed. In batch it also has each other candidate once, except
    those with the text of a positive.
    """
    model = checkpoint.model.eval()
    sums = {"text": 0.0, "location": 0.0, "fused": 0.0}
    everyone = distinct([p for row in rows for p in RECORDS[row].passages])
    with torch.no_grad():
        for row in rows:
            record_ = RECORDS[row]
            positives = distinct(record_.positives)
            own = positives + [p for p in record_.negatives if p.key not in record_.gold]
            if in_batch:
                known = {p.key for p in own}
                positive_texts = {p.text.strip() for p in positives}
                own += [p for p in everyone if p.key not in known and p.text.strip() not in positive_texts]
            q = model.embed_query(*objective.tokenize([record_.query]).pad())[0]
            text = model.embed_poi_text(*objective.tokenize([p.text for p in own]).pad()) @ q / temperature
            z = model.settings.normalizer([p.lng for p in own], [p.lat for p in own])
            place = model.embed_poi_location(torch.from_numpy(z)) @ q / temperature
            for kind, logits in (("text", text), ("location", place), ("fused", text + place)):
                share = torch.softmax(logits.double(), 0)[: len(positives)].sum().item()
                sums[kind] -= math.log(share) / len(rows)
    return sums


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("rows", [[1], [4, 2], [5, 4, 3, 2, 1, 0]], ids=str)
def test_losses_equal_their_definition(profile: Path, rows: list[int], in_batch: bool) -> None:
    checkpoint, objective = make_objective(profile, RECORDS, optim__in_batch=in_batch, momentum__temperature=0.3)
    checkpoint.model.eval()
    found = objective.step(checkpoint.model, np.array(rows), torch.device("cpu"))
    wanted = losses_by_definition(objective, checkpoint, rows, in_batch, 0.3)
    assert {name: value.item() for name, value in found._asdict().items()} == pytest.approx(wanted, abs=1e-5)


def test_the_key_location_encoder_and_both_text_encoders_are_trained(profile: Path) -> None:
    """The location group comes first; unused poolers belong to no group."""
    checkpoint, objective = make_objective(
        profile, RECORDS, optim__lr=0.5, optim__location_lr=0.25, optim__weight_decay=0
    )
    location, text = objective.groups()
    assert [(g.name, g.lr, g.weight_decay) for g in (location, text)] == [("location", 0.25, 1e-4), ("text", 0.5, 0)]
    named = dict(checkpoint.model.named_parameters())
    wanted = {n for n in named if n.startswith(("encoder_q.", "encoder_k.")) and ".pooler." not in n}
    assert {id(p) for p in text.parameters} == {id(named[n]) for n in wanted}
    wanted_location = {id(p) for n, p in named.items() if n.startswith("gc_encoder_shadow.")}
    assert {id(p) for p in location.parameters} == wanted_location
