"""The stored terms of a segment: their content, repair, and transfer in a merge."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.index import segment_terms
from m3gal_cli.index.document_frequencies import open_frequencies
from m3gal_cli.index.index import Index
from m3gal_cli.index.segment import Segment
from m3gal_cli.index.sparse import SparseSearcher
from m3gal_cli.index.writer import open_writer
from m3gal_cli.text.postings import Postings
from m3gal_cli.text.terms import Terms
from tests.helpers.indexes import build, index_of, index_sources, only_segment
from tests.helpers.toy_models import ToyEncoder

ADDRESSES = [f"{name}, {number} rue, 文三路" for number in range(9) for name in ("café", "Hôtel", "花园")]


def table(addresses: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"poi_id": range(len(addresses)), "address": addresses, "lng": 1.0, "lat": 2.0})


def assert_terms(segment: Segment, addresses: list[str]) -> None:
    """Compare the terms and postings of a segment with those of its addresses."""
    expected = Terms.of(addresses)
    for name in vars(expected):
        own, other = getattr(segment.terms, name), getattr(expected, name)
        assert own.starts.tolist() == other.starts.tolist()
        assert own.values.tolist() == other.values.tolist()
        assert (own.starts.dtype, own.values.dtype) == (other.starts.dtype, other.values.dtype)
    postings = Postings.of(expected.ngrams)
    assert segment.postings.ids.tolist() == postings.ids.tolist()
    assert segment.postings.starts.tolist() == postings.starts.tolist()
    assert segment.postings.rows.tolist() == postings.rows.tolist()


@pytest.mark.parametrize("block_rows", [1, 4, 8192])
@pytest.mark.parametrize("addresses", [ADDRESSES, [""], []])
def test_a_segment_stores_the_terms_of_its_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addresses: list[str], block_rows: int
) -> None:
    monkeypatch.setattr(segment_terms, "BLOCK_ROWS", block_rows)
    segment = only_segment(index_of(tmp_path / "index", table(addresses), ToyEncoder()))
    monkeypatch.setattr(Terms, "of", lambda addresses: pytest.fail("the terms are stored"))
    _ = segment.terms
    monkeypatch.undo()
    assert_terms(segment, addresses)


@pytest.mark.parametrize("damage", ["missing", "of another version", "cut", "empty", "of other rows", "half written"])
def test_terms_that_are_missing_or_damaged_are_computed_from_the_stored_addresses(tmp_path: Path, damage: str) -> None:
    folder = only_segment(index_of(tmp_path / "index", table(ADDRESSES), ToyEncoder())).path
    terms = folder / "terms"
    if damage == "missing":
        for path in [*terms.rglob("*.*")]:
            path.unlink()
    elif damage in ("of another version", "of other rows"):
        record = json.loads((terms / "terms.json").read_text())
        changed = {"version": -1} if damage == "of another version" else {"rows": 3}
        (terms / "terms.json").write_text(json.dumps(record | changed))
    elif damage == "half written":
        (terms / "terms.json").unlink()
    else:
        file = terms / "ngrams.npy"
        file.write_bytes(file.read_bytes()[:-5] if damage == "cut" else b"")
    assert_terms(only_segment(Index(tmp_path / "index")), ADDRESSES)
    assert json.loads((terms / "terms.json").read_text()) == {"version": segment_terms.TERMS_VERSION, "rows": 27}
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "no temporary files are left"


def test_terms_that_cannot_be_written_are_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = only_segment(index_of(tmp_path / "index", table(ADDRESSES), ToyEncoder())).path
    (folder / "terms" / "terms.json").unlink()

    def refused(*args: object, **options: object) -> str:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(segment_terms.tempfile, "mkdtemp", refused)
    assert_terms(only_segment(Index(tmp_path / "index")), ADDRESSES)
    assert not (folder / "terms" / "terms.json").exists()


def test_a_merge_carries_the_terms_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, pois = tmp_path / "index", table(ADDRESSES)
    index_of(path, pois[:20], ToyEncoder(), 7)
    with open_writer(path, ToyEncoder, shard_rows=7) as writer:
        writer.upsert(pois[20:])
        writer.delete([3, 24])
        monkeypatch.setattr(Terms, "of", lambda addresses: pytest.fail("the terms are known"))
        writer.compact()
        monkeypatch.undo()
        left = [address for row, address in enumerate(ADDRESSES) if row not in (3, 24)]
        assert_terms(only_segment(writer.index), left)
        frequencies = open_frequencies(writer.index)
        found = SparseSearcher(writer.index.segments, frequencies).search(["cafe 4 rue"], 1).rows[0]
        assert writer.index.addresses_at(found) == ["café, 4 rue, 文三路"]
        assert frequencies.size == 25
        assert np.array_equal(frequencies.ids, Postings.of(Terms.of(left).ngrams).ids)


def test_an_index_of_an_earlier_version_gets_its_terms_without_encoding_again(tmp_path: Path) -> None:
    path, messages = tmp_path / "index", list[str]()
    segment = only_segment(index_of(path, table(ADDRESSES), ToyEncoder()))
    shutil.rmtree(segment.path / "terms")
    np.savez(segment.path / "lexicon.1.npz", codes=np.zeros(2, np.uint64), rows=np.ones(2, int), size=27)
    (segment.path / ".terms.killed.tmp").mkdir()
    sources = replace(index_sources(table(ADDRESSES), ToyEncoder()), load_encoder=lambda: pytest.fail("not needed"))
    index = build(path, sources, messages=messages)
    assert index is not None
    assert messages == [f"index {path}: computing the n-grams of 27 addresses, which an earlier version did not store"]
    assert_terms(only_segment(index), ADDRESSES)
    assert open_frequencies(index).size == 27
    assert not (segment.path / ".terms.killed.tmp").exists()
    assert build(path, sources, messages=messages) is not None
    assert len(messages) == 1
