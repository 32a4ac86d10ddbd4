"""Data of a training: place ids of the views, and the attribution on the model card."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from m3gal_cli.training.pipelines import OSM_ATTRIBUTION, training_data_of, with_place_ids
from tests.helpers.sample_town import views


def test_ids_come_from_the_parquet_twin_if_it_has_the_same_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame(views(), columns=["address1", "address2", "lng", "lat"])
    ids = [f"n{i // 2}" for i in range(len(frame))]
    path = tmp_path / "same_poi_views_town.csv"
    assert "poi_id" not in with_place_ids(frame, path).columns
    frame.assign(poi_id=ids, group=7).to_parquet(path.with_suffix(".parquet"))
    found = with_place_ids(frame, path)
    assert found["poi_id"].tolist() == ids
    assert set(found["group"]) == {7}
    assert set(with_place_ids(frame.assign(poi_id="own"), path)["poi_id"]) == {"own"}, "own ids take precedence"
    for other in (frame.iloc[::-1].reset_index(drop=True), frame.iloc[1:]):
        assert "poi_id" not in with_place_ids(other, path).columns, "the twin has other rows"


@pytest.mark.parametrize(
    ("ids", "attribution"),
    [(["n1", "w23", "r456"], (OSM_ATTRIBUTION,)), (["n1", "7"], ()), (["n1", None], ()), ([], ())],
)
def test_openstreetmap_is_credited_if_all_place_ids_are_its_own(
    ids: list[object], attribution: tuple[str, ...]
) -> None:
    assert training_data_of(ids).attribution == attribution
