"""Grams, how many texts have them, and what that makes of a query, against counts one by one."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.text import document_frequencies as module
from m3gal_cli.text.bm25 import character_ngrams
from m3gal_cli.text.document_frequencies import DocumentFrequencies, Grams

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


def test_shares_of_a_query_are_those_of_its_idf() -> None:
    document_frequencies = DocumentFrequencies.of(TEXTS)
    for query in ("文三路12号三三", "North mall", "𠮷野家", "zzz文"):
        grams = sorted(character_ngrams(query), key=module.code_of)
        idf = {}
        for gram in grams:
            n = sum(gram in character_ngrams(text) for text in TEXTS)
            idf[gram] = np.log(1 + (len(TEXTS) - n + 0.5) / (n + 0.5))
        terms = document_frequencies.terms(query)
        assert terms.codes.tolist() == [module.code_of(gram) for gram in idf]
        wanted = [grams.count(gram) * value for gram, value in idf.items()]
        np.testing.assert_allclose(terms.shares, np.array(wanted) / sum(wanted))


def test_a_query_without_letters_and_no_text_and_an_empty_table() -> None:
    document_frequencies = DocumentFrequencies.of(TEXTS)
    assert document_frequencies.terms("，。!").codes.tolist() == []
    assert Grams.of(TEXTS).have(document_frequencies.terms("，。!")).shape == (len(TEXTS), 0)
    assert Grams.of([]).have(document_frequencies.terms("文")).shape == (0, 1)
    assert DocumentFrequencies.of([]).terms("文").shares.tolist() == [1.0]
    assert document_frequencies.typed(Grams.of([]), document_frequencies.terms("文")).shape == (0,)
    assert document_frequencies.typed(Grams.of(["", "文"]), document_frequencies.terms("，")).tolist() == [0.0, 0.0]


def test_frequencies_are_those_of_a_count(tmp_path: Path) -> None:
    chance = random.Random(0)
    texts = ["".join(chance.choices("甲乙丙ab 1-", k=chance.randint(0, 12))) for _ in range(300)]
    document_frequencies = DocumentFrequencies.of(texts)
    counts: dict[str, int] = {}
    for text in texts:
        for gram in set(character_ngrams(text)):
            counts[gram] = counts.get(gram, 0) + 1
    known = sorted(counts, key=module.code_of)
    assert document_frequencies.codes.tolist() == [module.code_of(gram) for gram in known]
    assert document_frequencies.rows.tolist() == [counts[gram] for gram in known]
    document_frequencies.save(tmp_path / "l.npz")
    again = DocumentFrequencies.load(tmp_path / "l.npz")
    assert (again.codes == document_frequencies.codes).all()
    assert (again.rows == document_frequencies.rows).all()
    assert again.size == 300


def test_what_is_no_lexicon_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "l.npz", codes=np.zeros(3), rows=np.zeros(3, np.int64), size=1)
    with pytest.raises(ValueError, match="no lexicon"):
        DocumentFrequencies.load(tmp_path / "l.npz")


def test_grams_are_found_text_by_text() -> None:
    chance = random.Random(1)
    texts = ["".join(chance.choices("甲乙ab1 ", k=chance.randint(0, 15))) for _ in range(100)]
    document_frequencies, own = DocumentFrequencies.of(texts), Grams.of([module.plain(text) for text in texts])
    for query in ("甲乙甲乙甲", "aaab 11", "zz", "?"):
        terms, known = document_frequencies.terms(query), sorted(set(character_ngrams(query)), key=module.code_of)
        assert terms.codes.tolist() == [module.code_of(gram) for gram in known]
        wanted = [[gram in character_ngrams(text) for gram in known] for text in texts]
        np.testing.assert_array_equal(own.have(terms), np.array(wanted).reshape(100, len(known)))
    once = own.distinct()
    pairs = {(row, module.code_of(gram)) for row, text in enumerate(texts) for gram in character_ngrams(text)}
    assert sorted(zip(once.rows.tolist(), once.codes.tolist(), strict=True)) == sorted(pairs)
    left = own.without(Grams.of([module.plain(text[:4]) for text in texts]))
    pairs -= {(row, module.code_of(gram)) for row, text in enumerate(texts) for gram in character_ngrams(text[:4])}
    assert sorted(zip(left.rows.tolist(), left.codes.tolist(), strict=True)) == sorted(pairs)
    assert left.size == once.size == 100


def test_typed_is_the_share_of_the_idf_of_a_text_that_the_query_says() -> None:
    document_frequencies = DocumentFrequencies.of(TEXTS)
    wanted = []
    for text in TEXTS:
        own = sorted(set(character_ngrams(text)))
        idf = document_frequencies.idf(np.array([module.code_of(gram) for gram in own], np.uint64))
        said = sum(value for gram, value in zip(own, idf, strict=True) if gram in character_ngrams("文三路北门"))
        wanted.append(said / idf.sum() if own else 0.0)
    found = document_frequencies.typed(
        Grams.of([module.plain(text) for text in TEXTS]).distinct(), document_frequencies.terms("文三路北门")
    )
    np.testing.assert_allclose(found, wanted)
    assert found.max() == pytest.approx(1.0)
