"""Postings against a dictionary of sets."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.text import postings
from m3gal_cli.text.postings import Postings
from m3gal_cli.text.terms import Lists


def lists_of(rows: list[list[int]]) -> Lists:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Lists(starts, np.array([value for row in rows for value in row], np.uint32))


def random_rows(seed: int, count: int = 200) -> list[list[int]]:
    """Rows with common and rare n-grams, of which some are as large as a hash can be; every seventh row has none."""
    draw = np.random.default_rng(seed)
    values = np.concatenate([np.arange(5), draw.integers(0, 1 << 32, 60), [2**32 - 1]])
    return [sorted(set(draw.choice(values, draw.integers(1, 9)).tolist())) if i % 7 else [] for i in range(count)]


@pytest.mark.parametrize(("part", "block"), [(1 << 24, 1 << 22), (50, 7), (1, 1)])
@pytest.mark.parametrize("rows", [random_rows(0), random_rows(1, 3), [[]], []])
def test_postings_are_the_transpose_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[list[int]], part: int, block: int
) -> None:
    monkeypatch.setattr(postings, "PART", part)
    monkeypatch.setattr(postings, "BLOCK", block)
    expected = {gram: [i for i, row in enumerate(rows) if gram in row] for gram in sorted({g for r in rows for g in r})}
    Postings.write(tmp_path / "postings", lists_of(rows))
    for found in (Postings.of(lists_of(rows)), Postings.open(tmp_path / "postings")):
        assert found.ids.tolist() == list(expected)
        own = [found.rows[a:b].tolist() for a, b in pairwise(found.starts.tolist())]
        assert own == list(expected.values())
        assert (found.ids.dtype, found.starts.dtype, found.rows.dtype) == (np.uint32, np.int64, np.int32)
        wanted = np.array([*list(expected)[::3], 7, 2**32 - 1], np.uint32)
        assert [own.tolist() for own in found.find(wanted)] == [expected.get(int(gram), []) for gram in wanted]


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    Postings.write(tmp_path / "postings", lists_of(random_rows(0)))
    np.save(tmp_path / "postings" / "rows.npy", np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="do not hold postings"):
        Postings.open(tmp_path / "postings")
    (tmp_path / "postings" / "rows.npy").unlink()
    with pytest.raises(OSError, match="rows"):
        Postings.open(tmp_path / "postings")
