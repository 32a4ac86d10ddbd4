"""Document frequencies, and n-grams of queries, against counts one by one."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.text.document_frequencies import DocumentFrequencies
from tests.helpers.ngrams import character_ngrams, code_of

TEXTS = ["文三路12号 三三三楼", "North Gate, Mall 12", "", "文三西路12号", "ＡＢＣ abc aaa"]
TEXTS += ["北门(北)", "北门(北)", "𠮷野家文三路店"]
FREQUENCIES = DocumentFrequencies.of(TEXTS)


def idf(gram: str) -> float:
    n = sum(gram in character_ngrams(text) for text in TEXTS)
    return float(np.log(1 + (len(TEXTS) - n + 0.5) / (n + 0.5)))


@pytest.mark.parametrize("query", ["文三路12号三三", "North mall", "𠮷野家", "zzz文"])
def test_the_shares_of_a_query_are_those_of_its_idf(query: str) -> None:
    grams = character_ngrams(query)
    distinct = sorted(set(grams), key=code_of)
    own = FREQUENCIES.query_ngrams(query)
    assert own.codes.tolist() == [code_of(gram) for gram in distinct]
    weights = np.array([grams.count(gram) * idf(gram) for gram in distinct])
    np.testing.assert_allclose(own.shares, weights / weights.sum())
    np.testing.assert_allclose(FREQUENCIES.idf(own.codes), [idf(gram) for gram in distinct])


def test_empty_queries_and_tables_are_valid() -> None:
    assert FREQUENCIES.query_ngrams("，。!").codes.tolist() == []
    assert DocumentFrequencies.of([]).query_ngrams("文").shares.tolist() == [1.0]


def test_frequencies_are_counted_saved_and_loaded_and_other_files_refused(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = ["".join(rng.choices("甲乙丙ab 1-", k=rng.randint(0, 12))) for _ in range(300)]
    counts: dict[int, int] = {}
    for text in texts:
        for gram in set(character_ngrams(text)):
            counts[code_of(gram)] = counts.get(code_of(gram), 0) + 1
    DocumentFrequencies.of(texts).save(tmp_path / "f.npz")
    loaded = DocumentFrequencies.load(tmp_path / "f.npz")
    assert dict(zip(loaded.codes.tolist(), loaded.rows.tolist(), strict=True)) == counts
    assert loaded.codes.tolist() == sorted(counts)
    assert loaded.size == 300
    np.savez(tmp_path / "f.npz", codes=np.zeros(3), rows=np.zeros(3, np.int64), size=1)
    with pytest.raises(ValueError, match="does not hold document frequencies"):
        DocumentFrequencies.load(tmp_path / "f.npz")
