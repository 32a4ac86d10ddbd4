"""``m3gal data inspect``: printed tables, their width, JSON output, messages and the map page."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from m3gal_cli.cli.data_inspect import KINDS_SHOWN, coverage_table, show
from m3gal_cli.inspect import InspectOptions, inspect_file
from m3gal_cli.inspect.city import FactCoverage
from tests.helpers.city_tables import CITY_PLACES, city_pois, write_city
from tests.helpers.cli import done, m3gal


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of a city whose names look like Rich markup."""
    return write_city(tmp_path_factory.mktemp("data"), city_pois("第{}[中学]"))


def page_data(page: Path) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert match is not None
    return json.loads(match[1])  # type: ignore[no-any-return]


def test_a_folder_shows_coverage_by_kind_and_places_with_views(folder: Path) -> None:
    answer = done(m3gal("data", "inspect", folder, "--places", 3))
    assert answer.err == ""
    assert "same_poi_views_t.csv: view table" in answer.out
    assert re.search(r"^amenity +60 +67 +20", answer.out, re.MULTILINE)
    assert re.search(rf"^all +{CITY_PLACES} +67 +20", answer.out, re.MULTILINE)
    places = inspect_file(folder, InspectOptions(places=3)).places
    assert len(places) == 3
    for place in places:
        assert f"{place.name}  {place.category}  {place.poi_id}" in answer.out
        assert re.search(rf"gate +{re.escape(place.name)}东门", answer.out)
    assert "examples" not in answer.out, "places replace the example rows"
    assert "examples" in done(m3gal("data", "inspect", folder, "--examples", 1)).out
    assert done(m3gal("data", "inspect", folder)).out.count("gate") == 20


def test_one_place_is_shown_by_its_id(folder: Path) -> None:
    output = done(m3gal("data", "inspect", folder, "--place", "n8")).out
    assert output.count("gate") == 1
    assert "第8[中学]东门" in output
    wrong = m3gal("data", "inspect", folder, "--place", "w800")
    assert (wrong.code, wrong.out) == (2, "")
    assert "no place has the id 'w800'" in wrong.err


def test_json_output_is_complete(folder: Path) -> None:
    command = ("data", "inspect", folder, "--json", "--places", 5, "--against", folder / "facts_t.parquet")
    value = done(m3gal(*command)).json()
    assert len(value["places"]) == 5
    assert value["places"][0]["views"][0]["kind"] == "poi"
    assert value["places"][0]["facts"]["crossing"] == "学府路 / 文一路 (100 m SE of it)"
    assert [row["kind"] for row in value["fact_shares"]][:2] == ["amenity", "shop"]
    assert (value["shift"]["verdict"], value["shift"]["matches"]) == ("none", CITY_PLACES)
    assert value["examples"][0]["row"] >= 1


@pytest.mark.parametrize("width", [80, 110, 200])
def test_output_fits_into_the_terminal(folder: Path, width: int) -> None:
    """No line is wider than the terminal, and folding loses no character of a Chinese text."""
    stream, inspection = io.StringIO(), inspect_file(folder)
    show(inspection, Console(file=stream, width=width, highlight=False), True)
    assert max(map(cell_len, stream.getvalue().splitlines())) <= width
    joined = "".join(stream.getvalue().split())
    for place in inspection.places:
        assert "".join(place.name.split()) in joined
    if width == 200:
        assert all(text in stream.getvalue() for place in inspection.places for _, text in place.views)
    if width == 80:
        assert inspection.places[0].views[0][1] in joined, "folded inside its own column"


def test_coverage_is_never_rounded_to_all_or_none_and_long_lists_are_cut() -> None:
    facts = {"street": 0.001, "number": 0.999, "crossing": 0.0, "area": 1.0, "landmark": 0.126}
    coverage = [FactCoverage(f"kind{i}", 100 - i, facts) for i in range(KINDS_SHOWN + 3)]
    stream = io.StringIO()
    Console(file=stream, width=80).print(coverage_table([*coverage, FactCoverage("all", 9999, facts)], 80))
    rows = [line.split() for line in stream.getvalue().splitlines()[2:]]
    assert rows[0] == ["kind0", "100", "<1", ">99", "0", "100", "13"]
    assert rows[KINDS_SHOWN] == ["3", "more", str(sum(100 - i for i in range(KINDS_SHOWN, KINDS_SHOWN + 3)))]
    assert rows[-1][:2] == ["all", "9,999"]


def test_the_map_page_is_written_whole_and_alone(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "map.html"
    answer = done(m3gal("data", "inspect", folder, "--html", page, "--json"))
    assert f"{page}: a map of {CITY_PLACES} places" in answer.err
    assert answer.json()["kind"] == "view table"
    data = page_data(page)
    assert data["summary"] == f"{CITY_PLACES} places"
    assert data["attribution"] == "© OpenStreetMap contributors"
    assert "<title>t</title>" in page.read_text("utf-8")
    assert list(page.parent.iterdir()) == [page]


def test_a_sample_is_stated_on_the_page_and_on_stderr(folder: Path, tmp_path: Path) -> None:
    command = ("data", "inspect", folder, "--places", 0, "--html-places", 12, "--html")
    message = done(m3gal(*command, tmp_path / "a.html")).err
    assert f"a map of 12 places, a sample of {CITY_PLACES} (seed 0; see --html-places)" in message
    first = page_data(tmp_path / "a.html")
    rows = [int(place[0][1:]) for place in first["places"]]
    assert rows == sorted(set(rows)), "in the order of the table"
    assert first["summary"] == f"A sample of 12 of {CITY_PLACES} places (seed 0)"
    done(m3gal(*command, tmp_path / "b.html", "--attribution", "AMap-derived", "--seed", 1))
    second = page_data(tmp_path / "b.html")
    assert second["attribution"] == "AMap-derived"
    assert second["places"] != first["places"]


def test_wrong_usage_ends_with_exit_code_2_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"query": "a"}\n')
    no_map = m3gal("data", "inspect", tmp_path / "q.jsonl", "--html", tmp_path / "m.html")
    assert (no_map.code, no_map.out) == (2, "")
    assert "q.jsonl" in no_map.err
    blocked = m3gal("data", "inspect", folder, "--html", tmp_path / "q.jsonl" / "m.html")
    assert (blocked.code, blocked.out) == (2, "")
    assert "cannot write there" in blocked.err
    assert not (tmp_path / "m.html").exists()
    assert m3gal("data", "inspect", folder, "--html-places", "0").code == 2
