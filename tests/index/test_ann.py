"""Approximate search: recall as measured by brute force, scores and order as of exact search, kept and tuned anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.geo.filters import Area
from m3gal_cli.index import ann as module
from m3gal_cli.index.ann import AnnSearcher, families_for, open_ann
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.index import Index
from m3gal_cli.index.searcher import products
from tests.helpers.vector_indexes import GivenVectors, MakeIndex, clustered, make_index  # noqa: F401

faiss = pytest.importorskip("faiss")
DIM = 32
VECTORS = clustered(2500, DIM, 20)


def opened(index: Index, recall: float = 0.9, **options: Any) -> tuple[AnnSearcher, list[str]]:
    said: list[str] = []
    searcher = open_ann(index, GivenVectors(VECTORS), recall, said.append, lambda *_: None, **options)  # type: ignore[arg-type]
    return searcher, said


def queries(count: int) -> np.ndarray:
    return GivenVectors(VECTORS).queries([str(37 * i) for i in range(count)])


@pytest.mark.parametrize("families", [["IVF16,SQ8"], ["IVF16,PQ16x4fs"], ["IVF16,Flat"], None])
def test_recall_as_told_and_scores_as_exact(make_index: MakeIndex, families: list[str] | None) -> None:  # noqa: F811
    index = make_index(VECTORS, shard_rows=512)
    searcher, said = opened(index, families=families)
    asked = queries(150)
    found, true = searcher.search(asked, 10), ExactSearcher(index).search(asked, 10)
    recall = np.mean([np.isin(t, f).mean() for t, f in zip(true.rows, found.rows, strict=True)])
    assert recall >= 0.9 - 0.04, "of other queries than those it was tuned with"
    assert searcher.setting.recall >= 0.9
    assert any(f"recall@10 {searcher.setting.recall:.3f}" in line for line in said)
    for query, rows, scores in zip(asked, found.rows, found.scores, strict=True):
        own = products(index.vectors(rows), query)
        assert scores.tolist() == own.tolist()
        assert np.lexsort((rows, -own)).tolist() == list(range(10))


def test_the_measured_recall_is_that_of_brute_force(make_index: MakeIndex) -> None:  # noqa: F811
    index = make_index(VECTORS)
    searcher, _ = opened(index, recall=0.5, families=["IVF16,PQ4x4fs"])
    probes = module._Probes(index, GivenVectors(VECTORS))  # type: ignore[arg-type]
    found = searcher.search(probes.vectors, 10).rows
    shares = []
    for query, rows in zip(probes.vectors, found, strict=True):
        true = np.argsort(-(VECTORS.astype(np.float64) @ query))[:10]
        shares.append(np.isin(true, rows).mean())
    # Codes that tie are taken in another order where more are asked for.
    assert searcher.setting.recall == pytest.approx(np.mean(shares), abs=0.01)


def test_built_once_and_tuned_for_every_target(make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    index = make_index(VECTORS)
    low, _ = opened(index, recall=0.6, families=["IVF16,SQ8"])
    monkeypatch.setattr(module, "train_cells", None)
    high, _ = opened(index, recall=0.97)
    again, said = opened(index, recall=0.6)
    assert again.setting == low.setting
    assert not said
    assert high.setting.recall >= 0.97
    assert set(json.loads((index.path / "ann" / "ann.json").read_text())["settings"]) == {"0.6", "0.97"}


def test_codes_that_are_too_coarse_are_found_out_on_a_sample(
    make_index: MakeIndex,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All rows are added for the family that is taken alone, and cells are looked for once."""
    filled: list[str] = []
    centres: list[np.ndarray] = []
    fill = module.fill_cells

    def note(index: module.Index, cells: Any, progress: module.Progress) -> None:
        filled.append(type(cells).__name__)
        centres.append(cells.quantizer.reconstruct_n(0, cells.nlist))
        fill(index, cells, progress)

    monkeypatch.setattr(module, "fill_cells", note)
    monkeypatch.setattr(module, "REORDERED", (10, 20))
    index = make_index(VECTORS)
    searcher, said = opened(index, recall=0.9, families=["IVF16,PQ2x4fs", "IVF16,SQ8"])
    assert filled == ["IndexIVFScalarQuantizer"]
    assert len([line for line in said if line.endswith("too coarse for these vectors")]) == 1
    assert searcher.setting.recall >= 0.9
    coarse = module.train_cells(index, "IVF16,PQ2x4fs", said.append)
    assert (centres[0] == coarse.quantizer.reconstruct_n(0, 16)).all()
    probes = module._Probes(index, GivenVectors(VECTORS))  # type: ignore[arg-type]
    rows = np.arange(0, len(VECTORS), module.TRIAL)
    shares = []
    share = probes.trial(coarse)
    assert coarse.ntotal == 0
    coarse.add(VECTORS[rows])
    near = module._probe(coarse, probes.vectors, 16, 10) * module.TRIAL
    for query, own in zip(probes.vectors, near, strict=True):
        shares.append(np.isin(rows[np.argsort(-(VECTORS[rows] @ query))[:10]], own).mean())
    assert share == pytest.approx(np.mean(shares), abs=0.01)


@pytest.mark.parametrize("family", ["IVF16,SQ8", "IVF16,Flat", "IVF16,PQ16x4fs"])
def test_codes_are_mapped_and_stay_as_they_are(make_index: MakeIndex, family: str) -> None:  # noqa: F811
    """Opened again, and tuned for another target, the file is neither read whole nor written."""
    index, asked = make_index(VECTORS), queries(40)
    path = index.path / "ann" / "cells.faiss"
    first = opened(index, recall=0.6, families=[family])[0]
    made = first.search(asked, 10)
    before = path.read_bytes(), path.stat().st_ino
    again, other = opened(index, recall=0.6)[0], opened(index, recall=0.7)[0]
    for searcher in (again, other):
        lists = faiss.downcast_InvertedLists(searcher.cells.invlists)
        assert isinstance(lists, faiss.OnDiskInvertedLists) == ("PQ" not in family)
    found = again.search(asked, 10)
    assert found.rows.tolist() == made.rows.tolist()
    assert found.scores.tolist() == made.scores.tolist()
    assert other.setting.recall >= 0.7
    assert (path.read_bytes(), path.stat().st_ino) == before


def test_a_file_that_was_cut_short(make_index: MakeIndex) -> None:  # noqa: F811
    """To look beyond the end of what is mapped would end the process."""
    index = make_index(VECTORS)
    path = index.path / "ann" / "cells.faiss"
    opened(index, families=["IVF16,SQ8"])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    searcher, said = opened(index, families=["IVF16,SQ8"])
    assert said
    assert len(path.read_bytes()) == len(whole), "threads that train add up in another order: the bytes may differ"
    assert (searcher.search(queries(40), 10).rows >= 0).all()


@pytest.mark.parametrize("file", ["cells.faiss", "ann.json"])
def test_damaged_files_are_made_anew(make_index: MakeIndex, file: str) -> None:  # noqa: F811
    index = make_index(VECTORS)
    opened(index, families=["IVF16,SQ8"])
    Path(index.path / "ann" / file).write_bytes(b"{}")
    searcher, said = opened(index, families=["IVF16,SQ8"])
    assert said
    assert searcher.search(queries(1), 10).rows.shape == (1, 10)


def test_a_target_out_of_reach_is_told(make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(module, "REORDERED", (10,))
    _, said = opened(make_index(VECTORS), recall=0.999999, families=["IVF16,PQ2x4fs"])
    assert said[-1] == "recall 0.999999 is not reached: --index exact finds all"


@pytest.mark.parametrize("few_rows", [0, 100_000])
def test_areas(make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch, few_rows: int) -> None:  # noqa: F811
    """Small areas are exact; in large ones all that is found lies inside, and nothing is missing that could be."""
    monkeypatch.setattr(module, "FEW_ROWS", few_rows)
    index = make_index(VECTORS)
    searcher, _ = opened(index, families=["IVF16,SQ8"])
    box, tiny = Area((120.0, 30.0, 120.05, 30.002)), Area((120.0, 30.0, 120.002, 30.0))
    asked, areas = queries(9), [box, None, tiny] * 3
    found, true = searcher.search(asked, 10, areas), ExactSearcher(index).search(asked, 10, areas)
    for area, one, two in zip(areas, found.rows, true.rows, strict=True):
        inside = index.rows_in(area) if area else np.arange(len(index))
        assert np.isin(one[one >= 0], inside).all()
        assert (one >= 0).sum() == min(10, len(inside))
        if area is tiny or (few_rows and area is box):
            assert (one == two).all()
        assert np.isin(one, two).mean() >= 0.7


@pytest.mark.parametrize("k", [1, 25, 4000])
def test_any_k(make_index: MakeIndex, k: int) -> None:  # noqa: F811
    index = make_index(VECTORS)
    rows = opened(index, recall=0.95, families=["IVF16,SQ8"])[0].search(queries(5), k).rows
    assert rows.shape == (5, k)
    for own in rows:
        assert len(set(own[own >= 0])) == min(k, len(VECTORS))


@pytest.mark.parametrize("k", [25, 100, 400])
def test_what_lies_deeper_is_found_as_well_as_the_best_ten(make_index: MakeIndex, k: int) -> None:  # noqa: F811
    """In few more cells: the fourth root of k times as many, and no fewer than hold so many places."""
    index = make_index(VECTORS)
    searcher, _ = opened(index, recall=0.9, families=["IVF16,SQ8"])
    true = ExactSearcher(index).search(queries(60), k).rows
    found = searcher.search(queries(60), k).rows
    assert np.mean([np.isin(t, f).mean() for t, f in zip(true, found, strict=True)]) >= 0.9


@pytest.mark.parametrize("count", [1, 3, 40])
def test_tiny_tables(make_index: MakeIndex, count: int) -> None:  # noqa: F811
    vectors = clustered(count, DIM, 5)
    searcher = open_ann(make_index(vectors), GivenVectors(vectors), 0.9, lambda _: None, lambda *_: None)  # type: ignore[arg-type]
    assert searcher.search(vectors[:1], 3).rows[0, 0] == 0


@pytest.mark.parametrize("recall", [0.0, 1.0, -1.0, 7.0])
def test_no_share(make_index: MakeIndex, recall: float) -> None:  # noqa: F811
    with pytest.raises(InputError, match="out of range"):
        opened(make_index(VECTORS), recall=recall)


@pytest.mark.parametrize(
    ("rows", "dim", "wanted"),
    [
        (1_000_000, 768, ["IVF4096,PQ192x4fs", "IVF4096,SQ8"]),
        (3_000_000, 384, ["IVF4096,PQ96x4fs", "IVF4096,SQ8"]),
        (20_000_000, 768, ["IVF16384,PQ192x4fs", "IVF16384,SQ8"]),
        (100, 768, ["IVF2,Flat"]),
        (5_000, 30, ["IVF125,SQ8"]),
    ],
)
def test_families(rows: int, dim: int, wanted: list[str]) -> None:
    assert families_for(rows, dim) == wanted
