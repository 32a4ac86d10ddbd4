"""Measurements of engines: ranks, tables that are indexed once, errors that do not stop the others; real servers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import peers
import pytest
from engines import addok, engine, in_process, m3gal, nominatim, pg_trgm, typesense
from engines.engine import Engine, EngineError, Http, OpenEngine, free_port, server
from engines.measurement import answer_rank, measure_sets
from engines.peers_table import FAILED, markdown_tables
from quality.sets import LabelledSet

from m3gal_cli.data.queries import Query
from m3gal_cli.data.records import Passage, Record
from m3gal_cli.evaluation.ranks import MISS, gold_ranks
from tests.helpers.sample_town import place

ROWS = [("Mill Lane Cafe", 24.0, 60.0), ("Castle Hill Museum", 24.1, 60.0), ("Harbour Road Bakery", 24.2, 60.0)]
POIS = pd.DataFrame(ROWS, columns=["address", "lng", "lat"]).assign(poi_id=["a", "b", "c"])


def labelled(name: str, pois: pd.DataFrame = POIS, among_candidates: bool = False) -> LabelledSet:
    """Return a set with a query for each POI: its name with an error."""
    passages = [Passage(row.address, row.lng, row.lat) for row in pois.itertuples()]
    records = [Record(p.text.replace("a", "", 1), [p], [q for q in passages if q is not p]) for p in passages]
    return LabelledSet(name, pois, records, among_candidates)


def made_engine(opened: list[int], answers: list[int], **options: object) -> Engine:
    """Return an engine that always gives the same answers, and notes the size of each table that it opens."""

    @contextmanager
    def open_made(pois: pd.DataFrame, folder: Path) -> Iterator[OpenEngine]:
        opened.append(len(pois))

        def search(query: Query) -> list[tuple[int, float]]:
            if not answers:
                raise EngineError("no answer")
            return [(row, float(-number)) for number, row in enumerate(answers)]

        yield OpenEngine("1.0", search, lambda: 7.0)

    return Engine("made", "none", open_made, **options)  # type: ignore[arg-type]


def test_the_rank_of_an_answer_is_that_of_the_evaluations() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        scores, gold = generator.integers(0, 4, 6).astype(float), generator.random(6) < 0.3
        order = np.argsort(-scores, kind="stable").tolist()
        assert answer_rank([(row, scores[row]) for row in order], gold) == gold_ranks(scores[None], gold[None])[0]
    assert answer_rank([(-1, 2.0), (0, 1.0)], np.array([True, True])) == 2  # an answer outside of the table
    assert answer_rank([], np.array([True])) == MISS


def test_sets_with_one_table_are_indexed_once() -> None:
    opened: list[int] = []
    other = labelled("other", POIS.iloc[:2].reset_index(drop=True))
    measured = dict(measure_sets(made_engine(opened, [0, 1]), [labelled("one"), other, labelled("two")]))
    assert opened == [3, 2]
    assert list(measured) == ["one", "two", "other"]
    assert measured["one"]["recall@1"] == pytest.approx(1 / 3)
    assert measured["one"]["recall@5"] == pytest.approx(2 / 3)
    assert measured["one"]["mrr@5"] == pytest.approx(0.5)
    assert (measured["two"]["version"], measured["two"]["memory_mb"]) == ("1.0", 7.0)


def test_an_engine_that_fails_is_reported_for_every_set_of_the_table() -> None:
    measured = dict(measure_sets(made_engine([], []), [labelled("one"), labelled("two")]))
    assert measured == {name: {"error": "EngineError: no answer"} for name in ("one", "two")}
    lines = [{"engine": "made", "set": "geotes", "error": "x"}, {"engine": "other", "set": "geotes", "error": "x"}]
    assert markdown_tables(lines, ["made"]).count(FAILED) == 3  # recall, milliseconds, memory


def test_sets_that_an_engine_cannot_do_are_left_out() -> None:
    only = made_engine([], [0], has=lambda name: name == "one")
    candidates = labelled("candidates", among_candidates=True)
    assert [name for name, _ in measure_sets(only, [labelled("one"), labelled("two"), candidates])] == ["one"]
    ranked = made_engine([], [0], rank_candidates=lambda own, folder: {"recall@1": 0.5})
    assert dict(measure_sets(ranked, [candidates])) == {"candidates": {"recall@1": 0.5}}


def test_tf_idf_scores_are_the_cosines_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    texts = [place(i)[0] for i in range(32)]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    cosines = cosine_similarity(vectorizer.fit_transform(texts), vectorizer.transform(["mil lane cafe"]))[:, 0]
    np.testing.assert_allclose(in_process.tfidf(texts)("mil lane cafe"), cosines, atol=1e-12)


@pytest.mark.parametrize("plain", in_process.ENGINES, ids=lambda plain: plain.name)
def test_plain_methods_find_misspelt_names_among_all_pois_and_among_candidates(plain: Engine) -> None:
    measured = dict(measure_sets(plain, [labelled("table"), labelled("candidates", among_candidates=True)]))
    assert [measured[name]["recall@1"] for name in ("table", "candidates")] == [1.0, 1.0]
    assert measured["table"]["memory_mb"] > 0


def test_a_server_runs_while_its_context_is_open(tmp_path: Path) -> None:
    port = free_port()
    words = [sys.executable, "-m", "http.server", port, "--bind", engine.LOOPBACK, "--directory", tmp_path]
    (tmp_path / "answer.json").write_text("[1]")
    http = Http(port)
    with server(words, lambda: http.get("/answer.json") == [1], tmp_path / "log.txt") as process:
        assert engine.memory_mb(process) > 1
        with pytest.raises(EngineError, match="status 404"):
            http.get("/missing")
    assert not process.is_running()


def test_a_server_that_ends_or_does_not_exist_is_an_error(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with (
        pytest.raises(EngineError, match="the server ended: no such luck"),
        server([sys.executable, "-c", "raise SystemExit('no such luck')"], lambda: False, log),
    ):
        pass
    with pytest.raises(EngineError, match="cannot be started"), server([tmp_path / "none"], lambda: True, log):
        pass
    with pytest.raises(EngineError, match="ended with exit code 3"):
        engine.command([sys.executable, "-c", "raise SystemExit(3)"], log)


def test_peers_stores_measurements_and_fails_loudly(
    geotes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "OTHERS", [in_process.ENGINES[1], made_engine([], [])])
    common = ["--data", str(geotes.parent), "--folder", str(tmp_path / "kept"), "--sets", "geotes", "--engines"]
    with pytest.raises(SystemExit) as stopped:
        peers.main([*common, "BM25"])
    first = capsys.readouterr()
    assert (stopped.value.code, first.err.count("BM25, geotes")) == (0, 1)
    with pytest.raises(SystemExit) as stopped:
        peers.main([*common, "BM25", "made"])
    second = capsys.readouterr()
    assert stopped.value.code == 1
    assert "BM25, geotes" not in second.err  # stored
    assert "NOT MEASURED: made, geotes: EngineError: no answer" in second.err
    assert first.out.splitlines()[2] == second.out.splitlines()[2]
    with pytest.raises(SystemExit) as stopped:
        peers.main([*common, "yahoo"])
    assert stopped.value.code == 2


SERVERS = [*pg_trgm.ENGINES, *typesense.ENGINES, *addok.ENGINES]


@pytest.mark.integration
@pytest.mark.parametrize("other", SERVERS, ids=lambda other: other.name)
def test_other_engines_find_misspelt_names(other: Engine) -> None:
    [(_, measured)] = measure_sets(other, [labelled("table")])
    if "is not installed" in measured.get("error", "") or "cannot be started" in measured.get("error", ""):
        pytest.skip(f"NOT TESTED with {other.name}: {measured['error']}")
    assert measured.get("recall@1") == 1.0, measured


@pytest.mark.integration
def test_nominatim_finds_a_name_of_the_sample_city() -> None:
    pois = pd.DataFrame([("n1", "x", 24.9, 60.1), ("w8033120", "Kansallismuseo", 24.93, 60.17)])
    pois.columns = ["poi_id", "address", "lng", "lat"]
    own = LabelledSet("helsinki", pois, [Record("Ateneum", [Passage("x", 24.9, 60.1)], [])])
    [(_, measured)] = measure_sets(nominatim.ENGINES[0], [own])
    if "not installed" in measured.get("error", ""):
        pytest.skip(f"NOT TESTED with Nominatim: {measured['error']}")
    assert measured.get("version"), measured


@pytest.mark.integration
def test_the_packaged_model_answers_and_an_unknown_checkpoint_is_an_error() -> None:
    sets = [labelled("table"), labelled("candidates", among_candidates=True)]
    measured = dict(measure_sets(m3gal.engine("packaged", confidence=True), sets))
    assert [measured[own.name].get("recall@1") for own in sets] == [1.0, 1.0], measured
    wrong = replace(m3gal.engine("packaged"), open=m3gal.open_with("no-such-run"))
    assert "no such checkpoint" in dict(measure_sets(wrong, sets[:1]))["table"]["error"]
