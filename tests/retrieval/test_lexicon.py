"""BM25 of candidates from document frequencies alone, against the library's index over the same texts."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.retrieval import lexicon as module
from m3gal_cli.retrieval.lexical import LexicalIndex, character_ngrams
from m3gal_cli.retrieval.lexicon import Lexicon

TEXTS = [
    "文三路12号 三三三楼",
    "North Gate, Mall 12",
    "",
    "文三西路12号",
    "ＡＢＣ abc aaa",
    "北门(北)",
    "北门(北)",
    "𠮷野家文三路店",
]
QUERIES = ["文三路12号三三", "north mall", "aaa", "𠮷野家", "北门北门", "zzz文"]


def most(lexicon: Lexicon, query: str) -> float:
    """Summed idf of a query's grams, by its definition."""
    total = 0.0
    for gram in character_ngrams(query):
        n = sum(gram in character_ngrams(text) for text in TEXTS)
        total += float(np.log(1 + (len(TEXTS) - n + 0.5) / (n + 0.5)))
    return total


def shares(lexicon: Lexicon, query: str, texts: list[str]) -> np.ndarray:
    terms, own = lexicon.terms(query), [module.plain(text) for text in texts]
    lengths = np.array([module.length_of(text) for text in own], np.float64)
    return lexicon.bm25(terms, module.count_grams(terms, own), lengths)


@pytest.mark.parametrize("query", QUERIES)
def test_shares_are_those_of_the_library_over_the_most_possible(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    lexicon = Lexicon.of(iter(TEXTS))
    expected = LexicalIndex(TEXTS).scores(query) / most(lexicon, query)
    np.testing.assert_allclose(shares(lexicon, query, TEXTS), expected, rtol=1e-5, atol=1e-6)
    assert (expected < 1).all()
    assert lexicon.terms(query).shares.sum() == pytest.approx(1)


def test_a_query_without_letters_and_no_candidate_and_an_empty_table() -> None:
    lexicon = Lexicon.of(TEXTS)
    assert lexicon.terms("，。!").grams == []
    assert shares(lexicon, "，。!", TEXTS).tolist() == [0.0] * len(TEXTS)
    assert shares(lexicon, "文", []).shape == (0,)
    assert (shares(Lexicon.of([]), "文", ["文三路"]) > 0).all()


def test_frequencies_are_those_of_a_count(tmp_path: Path) -> None:
    chance = random.Random(0)
    texts = ["".join(chance.choices("甲乙丙ab 1-", k=chance.randint(0, 12))) for _ in range(300)]
    lexicon = Lexicon.of(texts)
    counts: dict[str, int] = {}
    for text in texts:
        for gram in set(character_ngrams(text)):
            counts[gram] = counts.get(gram, 0) + 1
    known = sorted(counts, key=module.code_of)
    assert lexicon.codes.tolist() == [module.code_of(gram) for gram in known]
    assert lexicon.rows.tolist() == [counts[gram] for gram in known]
    assert [module.length_of(module.plain(t)) for t in texts] == [len(character_ngrams(t)) for t in texts]
    assert lexicon.mean_length == pytest.approx(np.mean([len(character_ngrams(t)) for t in texts]))
    lexicon.save(tmp_path / "l.npz")
    again = Lexicon.load(tmp_path / "l.npz")
    assert (again.codes == lexicon.codes).all()
    assert (again.rows == lexicon.rows).all()
    assert (again.size, again.mean_length) == (300, lexicon.mean_length)


def test_what_is_no_lexicon_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "l.npz", codes=np.zeros(3), rows=np.zeros(3, np.int64), size=1, mean_length=1.0)
    with pytest.raises(ValueError, match="no lexicon"):
        Lexicon.load(tmp_path / "l.npz")
