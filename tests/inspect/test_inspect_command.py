"""``m3gal data inspect`` at the command line: what is printed, where, and how wide; the page it writes."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from rich.cells import cell_len
from rich.console import Console

from m3gal_cli.cli.data_inspect import KINDS_SHOWN, shares_table, show
from m3gal_cli.data.tables import write_pois, write_table, write_views
from m3gal_cli.geo.coordinates import wgs84_to_gcj02
from m3gal_cli.inspect import Look, inspect_file
from m3gal_cli.inspect.city import Share
from tests.helpers.cli import done, m3gal

COUNT = 40


def tables(folder: Path) -> Path:
    """A city of ``data osm``: Chinese names, a view, a POI table with facts and a facts table."""
    i = pd.Series(range(COUNT))
    places = pd.DataFrame({"poi_id": "w" + i.astype(str), "name": "第" + i.astype(str) + "[中学]"})
    places["address"] = places["name"] + ",科教文化服务,学校,莫干山路与文一西路交叉口东北100米,西湖区"
    places = places.assign(lng=120.1 + i / 1000, lat=30.2 + i % 7 / 1000, category="amenity=school", street="莫干山路")
    places.loc[i % 4 == 0, "category"] = "shop=supermarket"
    places["housenumber"] = [str(n) if n % 2 else "" for n in i]
    write_pois(places, folder / "poi_database_t.csv")
    views = places.assign(address1=places["name"] + "东门", address2=places["address"], kind1="sub_gate", kind2="poi")
    columns = ["address1", "address2", "lng", "lat", "poi_id", "kind1", "kind2"]
    write_views(views[columns], folder / "same_poi_views_t.csv")
    facts = places[["poi_id", "name", "category", "street", "lng", "lat"]]
    facts.assign(area="东村", area_bearing=45.0).to_parquet(folder / "facts_t.parquet")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tables(tmp_path_factory.mktemp("data"))


def test_the_folder_shows_facts_by_kind_and_places_with_views(folder: Path) -> None:
    shown = done(m3gal("data", "inspect", folder, "--places", 3))
    assert shown.err == ""
    assert "same_poi_views_t.csv: view table" in shown.out
    assert "% of places with …" in shown.out
    assert re.search(r"^amenity +30 +100 +100", shown.out, re.MULTILINE)
    assert re.search(r"^all +40 +100 +100", shown.out, re.MULTILINE)
    cards = inspect_file(folder, Look(places=3)).places
    assert len(cards) == 3
    for card in cards:
        assert f"{card.name}  {card.category}  {card.poi_id}" in shown.out
        assert re.search(rf"sub_gate +{re.escape(card.name)}东门", shown.out)
    assert "东村 (in its NE)" in shown.out
    assert "examples" not in shown.out, "places stand for rows"
    assert "examples" in done(m3gal("data", "inspect", folder, "--examples", 1)).out
    assert done(m3gal("data", "inspect", folder)).out.count("sub_gate") == 20


def test_one_place(folder: Path) -> None:
    shown = done(m3gal("data", "inspect", folder, "--place", "w8")).out
    assert shown.count("sub_gate") == 1
    assert "第8[中学]东门" in shown
    wrong = m3gal("data", "inspect", folder, "--place", "w800")
    assert (wrong.code, wrong.out) == (2, "")
    assert "no place has the id 'w800'" in wrong.err


def test_json_has_all_of_it(folder: Path) -> None:
    value = done(
        m3gal("data", "inspect", folder, "--json", "--places", 5, "--against", folder / "facts_t.parquet")
    ).json()
    assert len(value["places"]) == 5
    assert value["places"][0]["views"][0]["kind"] == "poi"
    assert value["places"][0]["facts"]["area"] == "东村 (in its NE)"
    assert [row["kind"] for row in value["fact_shares"]] == ["amenity", "shop", "all"]
    assert value["shift"]["verdict"] == "none"
    assert value["shift"]["matches"] == COUNT
    assert value["examples"][0]["row"] >= 1


@pytest.mark.parametrize("width", [80, 110, 200])
def test_it_fits_into_the_terminal(folder: Path, width: int) -> None:
    """No line is wider, and nothing of a Chinese text gets lost at its folds."""
    stream = io.StringIO()
    found = inspect_file(folder)
    show(found, Console(file=stream, width=width, highlight=False), rows=True)
    lines = stream.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    joined = "".join(stream.getvalue().split())
    for card in found.places:
        assert "".join(card.name.split()) in joined
        if width == 200:
            assert all(text in stream.getvalue() for _, text in card.views)
    if width == 80:
        text = found.places[0].views[0][1]
        assert text in joined, "folded over several lines of its own column, in one piece"


def test_shares_are_rounded_honestly_and_long_lists_end() -> None:
    facts = {"street": 0.001, "number": 0.999, "crossing": 0.0, "area": 1.0, "landmark": 0.126}
    stream = io.StringIO()
    shares = [Share(f"kind{i}", 100 - i, facts) for i in range(KINDS_SHOWN + 3)] + [Share("all", 9999, facts)]
    Console(file=stream, width=80).print(shares_table(shares, 80))
    rows = [line.split() for line in stream.getvalue().splitlines()[2:]]
    assert rows[0] == ["kind0", "100", "<1", ">99", "0", "100", "13"]
    assert rows[KINDS_SHOWN] == ["3", "more", str(sum(100 - i for i in range(KINDS_SHOWN, KINDS_SHOWN + 3)))]
    assert rows[-1][:2] == ["all", "9,999"]


def test_a_shifted_table_is_warned_of(folder: Path, tmp_path: Path) -> None:
    pois = pd.read_parquet(folder / "poi_database_t.parquet")
    lng, lat = wgs84_to_gcj02(pois["lng"], pois["lat"])
    write_table(pois.assign(lng=lng, lat=lat)[["address", "lng", "lat"]], tmp_path / "mine.csv")
    given = ("data", "inspect", tmp_path / "mine.csv", "--against", folder / "facts_t.parquet")
    told = done(m3gal(*given)).err
    assert re.search(r"warning: looks like GCJ-02: the median distance to 40 namesakes falls from \d+ m to 0 m; ", told)
    assert "read it with --datum gcj02" in told
    right = done(m3gal(*given, "--datum", "gcj02")).err
    assert "warning" not in right
    assert "it is being read so" in right
    alone = done(m3gal("data", "inspect", tmp_path / "mine.csv"))
    assert "cannot be told from the file alone" in " ".join(alone.out.split())


def data_of(page: Path) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


def test_the_page(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "map.html"
    told = done(m3gal("data", "inspect", folder, "--html", page, "--json"))
    assert told.err == f"{page}: a map of {COUNT} places\n"
    assert told.json()["kind"] == "view table"
    data = data_of(page)
    assert data["summary"] == "40 places"
    assert data["attribution"] == "© OpenStreetMap contributors"
    assert "<title>t</title>" in page.read_text("utf-8")
    assert list(page.parent.iterdir()) == [page]


def test_a_sample_is_said_on_the_page_and_on_stderr(folder: Path, tmp_path: Path) -> None:
    given = ("data", "inspect", folder, "--places", 0, "--html-places", 12, "--html")
    told = done(m3gal(*given, tmp_path / "a.html"))
    assert "a map of 12 places, a sample of 40 (seed 0; see --html-places)" in told.err
    assert data_of(tmp_path / "a.html")["summary"] == "A sample of 12 of 40 places (seed 0)"
    done(m3gal(*given, tmp_path / "b.html", "--attribution", "AMap-derived"))
    assert data_of(tmp_path / "b.html")["attribution"] == "AMap-derived"
    assert data_of(tmp_path / "a.html")["places"] == data_of(tmp_path / "b.html")["places"]
    done(m3gal(*given, tmp_path / "c.html", "--seed", 1))
    assert data_of(tmp_path / "c.html")["places"] != data_of(tmp_path / "a.html")["places"]


def test_what_has_no_map_and_where_none_can_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"query": "a"}\n')
    wrong = m3gal("data", "inspect", tmp_path / "q.jsonl", "--html", tmp_path / "m.html")
    assert (wrong.code, wrong.out) == (2, "")
    assert "a file of queries has no map" in wrong.err
    blocked = m3gal("data", "inspect", folder, "--html", tmp_path / "q.jsonl" / "m.html")
    assert (blocked.code, blocked.out) == (2, "")
    assert "cannot write there" in blocked.err
    assert not (tmp_path / "m.html").exists()
    for option in ("--html-places", "--places", "--examples", "--seed"):
        assert m3gal("data", "inspect", folder, option, "-1").code == 2
    assert m3gal("data", "inspect", folder, "--against-datum", "mars").code == 2
