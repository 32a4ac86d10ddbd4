"""Approximate search: recall as measured by brute force, exact scores, and stored parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.ann import AnnSearcher, Tuner, factory_strings, open_ann, train_ivf
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.searcher import inner_products
from m3gal_cli.index.segment import Segment
from tests.helpers.indexes import GivenVectors, Matrix, clustered_vectors, segment_of_vectors

faiss = pytest.importorskip("faiss")
DIM = 32
VECTORS = clustered_vectors(2500, DIM, 20)
ENCODER = GivenVectors(VECTORS)


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    return segment_of_vectors(tmp_path / "index", VECTORS, shard_rows=512)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> AnnSearcher:
    """A searcher that tests must not change."""
    return opened(segment_of_vectors(tmp_path_factory.mktemp("ann") / "index", VECTORS))[0]


def opened(
    segment: Segment, recall: float = 0.9, factory: str = "IVF16,SQ8", **options: Any
) -> tuple[AnnSearcher, list[str]]:
    messages: list[str] = []
    options = {"factories": [factory]} | options
    return open_ann(segment, ENCODER, recall, messages.append, lambda *_: None, **options), messages


def queries(count: int) -> Matrix:
    return ENCODER.encode_queries([str(37 * i) for i in range(count)])


def mean_recall(nearest: np.ndarray, found: np.ndarray) -> float:
    return float(np.mean([np.isin(n, f).mean() for n, f in zip(nearest, found, strict=True)]))


@pytest.mark.parametrize("factories", [["IVF16,SQ8"], ["IVF16,PQ16x4fs"], ["IVF16,Flat"], None])
def test_recall_reaches_the_target_and_scores_are_exact(segment: Segment, factories: list[str] | None) -> None:
    searcher, messages = opened(segment, factories=factories)
    result, exact = searcher.search(queries(150), 10), ExactSearcher(segment).search(queries(150), 10)
    assert searcher.setting.recall >= 0.9
    assert mean_recall(exact.rows, result.rows) >= 0.9 - 0.04, "for other queries than those of the tuning"
    assert any(f"recall@10 {searcher.setting.recall:.3f}" in line for line in messages)
    for query, rows, scores in zip(queries(150), result.rows, result.scores, strict=True):
        expected = inner_products(segment.vectors(rows), query)
        assert scores.tolist() == expected.tolist()
        assert np.lexsort((rows, -expected)).tolist() == list(range(10))


def test_the_measured_recall_is_that_of_brute_force(segment: Segment) -> None:
    searcher, _ = opened(segment, 0.5, "IVF16,PQ4x4fs")
    tuning = Tuner(segment, ENCODER).queries
    nearest = np.argsort(-(tuning.astype(np.float64) @ VECTORS.T.astype(np.float64)), axis=1)[:, :10]
    # The order of equal codes depends on the number of results.
    assert searcher.setting.recall == pytest.approx(mean_recall(nearest, searcher.search(tuning, 10).rows), abs=0.01)


@pytest.mark.parametrize("factory", ["IVF16,SQ8", "IVF16,PQ16x4fs"])
def test_an_index_is_built_once_mapped_and_tuned_for_each_target(segment: Segment, factory: str) -> None:
    path = segment.path / "ann" / "cells.faiss"
    first = opened(segment, 0.6, factory)[0]
    expected, stored = first.search(queries(40), 10), (path.read_bytes(), path.stat().st_ino)
    (again, messages), other = opened(segment, 0.6), opened(segment, 0.7)[0]
    assert (again.setting, messages) == (first.setting, [])
    assert other.setting.recall >= 0.7
    for searcher in (again, other):
        lists = faiss.downcast_InvertedLists(searcher.ivf.invlists)
        assert isinstance(lists, faiss.OnDiskInvertedLists) == ("PQ" not in factory)
    result = again.search(queries(40), 10)
    assert result.rows.tolist() == expected.rows.tolist()
    assert result.scores.tobytes() == expected.scores.tobytes()
    assert (path.read_bytes(), path.stat().st_ino) == stored
    assert set(json.loads((segment.path / "ann" / "ann.json").read_text())["settings"]) == {"0.6", "0.7"}


def test_codes_that_are_too_coarse_are_rejected_on_a_sample(segment: Segment) -> None:
    """The next index type takes over the centroids."""
    searcher, messages = opened(segment, factories=["IVF16,PQ2x4fs", "IVF16,SQ8"], refine_sizes=(10, 20))
    assert type(searcher.ivf).__name__ == "IndexIVFScalarQuantizer"
    assert len([line for line in messages if "codes of IVF16,PQ2x4fs are too coarse" in line]) == 1
    assert searcher.setting.recall >= 0.9
    coarse = train_ivf(segment, "IVF16,PQ2x4fs", messages.append)
    assert (searcher.ivf.quantizer.reconstruct_n(0, 16) == coarse.quantizer.reconstruct_n(0, 16)).all()


@pytest.mark.parametrize("damage", ["truncated codes", "other codes", "other settings"])
def test_damaged_files_are_built_again(segment: Segment, damage: str) -> None:
    """Without the check of the size, reading beyond the end of a mapped file would end the process."""
    opened(segment)
    path = segment.path / "ann" / ("ann.json" if damage == "other settings" else "cells.faiss")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "truncated codes" else b"{}")
    searcher, messages = opened(segment)
    assert messages
    assert (searcher.search(queries(40), 10).rows >= 0).all()


def test_a_target_that_is_not_reached_is_reported(segment: Segment) -> None:
    _, messages = opened(segment, 0.999999, "IVF16,PQ2x4fs", refine_sizes=(10,))
    assert messages[-1] == "recall 0.999999 is not reached; --index exact searches all POIs"


@pytest.mark.parametrize("max_exact_rows", [0, 100_000])
def test_filters_are_exact_for_few_pois_and_complete_for_many(shared: AnnSearcher, max_exact_rows: int) -> None:
    segment = shared.segment
    searcher = AnnSearcher(segment, shared.ivf, shared.setting, max_exact_rows)
    large, small = GeoFilter((-60.0, -40.0, 90.0, 50.0)), GeoFilter((0.0, 0.0, 8.0, 8.0))
    assert len(segment.rows_in(small)) < 10
    filters = [large, None, small] * 3
    result, exact = searcher.search(queries(9), 10, filters), ExactSearcher(segment).search(queries(9), 10, filters)
    for geo_filter, rows, expected in zip(filters, result.rows, exact.rows, strict=True):
        allowed = segment.rows_in(geo_filter) if geo_filter else np.arange(len(segment))
        assert np.isin(rows[rows >= 0], allowed).all()
        assert (rows >= 0).sum() == min(10, len(allowed))
        if geo_filter is small or (max_exact_rows and geo_filter is large):
            assert (rows == expected).all()
        assert np.isin(rows, expected).mean() >= 0.7


@pytest.mark.parametrize("k", [1, 100, 4000])
def test_recall_holds_for_any_k(shared: AnnSearcher, k: int) -> None:
    result = shared.search(queries(60), k).rows
    assert result.shape == (60, k)
    for rows in result:
        assert len(set(rows[rows >= 0])) == min(k, len(VECTORS))
    assert mean_recall(ExactSearcher(shared.segment).search(queries(60), k).rows, result) >= 0.87


@pytest.mark.parametrize("count", [1, 3, 40])
def test_tiny_tables_are_searched(tmp_path: Path, count: int) -> None:
    vectors = clustered_vectors(count, DIM, 5)
    segment = segment_of_vectors(tmp_path / "index", vectors)
    searcher = open_ann(segment, GivenVectors(vectors), 0.9, lambda _: None, lambda *_: None)
    assert searcher.search(vectors[:1], 3).rows[0, 0] == 0


def test_the_index_type_suits_the_size() -> None:
    assert factory_strings(1_000_000, 768) == ["IVF4096,PQ192x4fs", "IVF4096,SQ8"]
    assert factory_strings(100, 768) == ["IVF2,Flat"]
    assert factory_strings(5_000, 30) == ["IVF125,SQ8"]
