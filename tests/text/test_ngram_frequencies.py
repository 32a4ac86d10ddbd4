"""Document frequencies against loops, and idf against scikit-learn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from m3gal_cli.text import ngram_frequencies
from m3gal_cli.text.ngram_frequencies import NgramFrequencies
from m3gal_cli.text.postings import Postings
from tests.text.test_postings import lists_of, random_rows

ROWS = random_rows(3)


def as_dict(frequencies: NgramFrequencies) -> dict[int, int]:
    return dict(zip(frequencies.ids.tolist(), frequencies.counts.tolist(), strict=True))


def counted(rows: list[list[int]]) -> dict[int, int]:
    return dict(sorted(Counter(gram for row in rows for gram in row).items()))


def test_counts_are_those_of_a_loop() -> None:
    whole = NgramFrequencies.of(lists_of(ROWS))
    assert (as_dict(whole), whole.size) == (counted(ROWS), len(ROWS))
    from_postings = NgramFrequencies.of_postings(Postings.of(lists_of(ROWS)), len(ROWS))
    assert (as_dict(from_postings), from_postings.size) == (counted(ROWS), len(ROWS))
    wanted = np.array([7, *counted(ROWS), 2**32 - 2], np.uint32)
    assert whole.counts_of(wanted).tolist() == [counted(ROWS).get(int(gram), 0) for gram in wanted]
    empty = NgramFrequencies.of(lists_of([]))
    assert (empty.counts_of(wanted[:2]).tolist(), empty.idf(wanted[:2]).tolist(), empty.largest_idf) == (
        [0, 0],
        [1, 1],
        1,
    )


def test_tables_are_added_and_subtracted() -> None:
    parts = [NgramFrequencies.of(lists_of(ROWS[a:b])) for a, b in ((0, 50), (50, 51), (51, 200))]
    total = NgramFrequencies.total(parts)
    assert (as_dict(total), total.size) == (counted(ROWS), 200)
    left = NgramFrequencies.total([total], parts[1:])
    assert (as_dict(left), left.size) == (counted(ROWS[:50]), 50)
    assert NgramFrequencies.total([total], [NgramFrequencies.of(lists_of([]))]) is total
    assert NgramFrequencies.total([]).size == 0


def test_idf_is_that_of_scikit_learn() -> None:
    reference = TfidfVectorizer(analyzer=lambda row: row).fit(ROWS)
    frequencies = NgramFrequencies.of(lists_of(ROWS))
    grams = np.array(list(reference.vocabulary_), np.uint32)
    expected = [reference.idf_[column] for column in reference.vocabulary_.values()]
    np.testing.assert_allclose(frequencies.idf(grams), expected, rtol=1e-12)
    assert frequencies.idf(np.array([7], np.uint32))[0] == frequencies.largest_idf > max(expected)


def test_the_file_holds_the_counts_of_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frequencies = NgramFrequencies.of(lists_of(ROWS))
    frequencies.save(tmp_path / "f.npz")
    loaded = NgramFrequencies.load(tmp_path / "f.npz")
    assert (as_dict(loaded), loaded.size) == (as_dict(frequencies), 200)
    monkeypatch.setattr(ngram_frequencies, "TERMS_VERSION", -1)
    with pytest.raises(ValueError, match="another version"):
        NgramFrequencies.load(tmp_path / "f.npz")
    np.savez(tmp_path / "other.npz", ids=[1.5], counts=[1], size=1, version=-1)
    with pytest.raises(ValueError, match="does not hold document frequencies"):
        NgramFrequencies.load(tmp_path / "other.npz")
