"""``m3gal index``: build, add, delete, compact and info, and which table and model an index follows."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import Answer, done, file_contents, m3gal
from tests.helpers.sample_town import PLACES, place, town_with_run, train, write_csv, write_lines

COLUMNS = ["poi_id", "address", "lng", "lat", "phone"]
QUERIES = "north street cafe\ncastle hill museum\nnew tower\n"
TOWER = {"poi_id": "tower", "address": "new tower north street 1", "lng": 24.93, "lat": 60.12, "phone": "555"}


def shop(i: int) -> list[Any]:
    """Return the row of place i with an id and a phone number."""
    return [f"p{i}", *place(i), f"555-{i}"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``runs/only`` and the table ``shops.csv`` with ids."""
    folder = town_with_run(tmp_path_factory.mktemp("index"))
    write_csv(folder / "shops.csv", COLUMNS, [shop(i) for i in range(PLACES)])
    return folder


@pytest.fixture
def index(here: Path, tmp_path: Path) -> Path:
    """An index of ``shops.csv``."""
    return build(tmp_path / "index", here / "shops.csv")


def build(folder: Path, table: Path) -> Path:
    done(m3gal("index", "build", "--pois", table, "--index-dir", folder))
    return folder


def ask(index: Path, *options: object) -> Answer:
    """Return all POIs for each query, by an index alone."""
    return done(m3gal("predict", "-", "-k", 2 * PLACES, "--index-dir", index, *options, stdin=QUERIES))


def matches(answer: Answer) -> list[list[tuple[Any, ...]]]:
    """Return id, address and rounded score of each match; ties and float32 rounding are left out."""
    rows = [[(m["poi_id"], m["address"], round(m["score"], 4)) for m in line["matches"]] for line in answer.lines()]
    return [sorted(row, key=lambda m: (-m[2], str(m[0]))) for row in rows]


def ids(answer: Answer) -> set[Any]:
    return {match["poi_id"] for line in answer.lines() for match in line["matches"]}


def facts(index: Path) -> dict[str, Any]:
    return done(m3gal("index", "info", "--index-dir", index, "--json")).json()


def test_build_prints_facts_and_a_second_build_changes_nothing(here: Path, tmp_path: Path) -> None:
    given = ("index", "build", "--pois", here / "shops.csv", "--index-dir", tmp_path / "i", "--json")
    first = done(m3gal(*given))
    assert (first.json()["pois"], first.json()["segments"]) == (PLACES, [PLACES])
    before = file_contents(tmp_path)
    assert done(m3gal(*given)).json() == first.json()
    assert file_contents(tmp_path) == before


def test_without_a_folder_the_index_of_the_table_of_the_run_is_meant(here: Path) -> None:
    folder = Path("runs/only/index/poi_database_town")
    try:
        built = done(m3gal("index", "build", "--json")).json()
        assert built["path"] == str(folder)
        assert done(m3gal("index", "info", "--json")).json() == built
        assert done(m3gal("index", "delete", "0")).out == "1 removed\n"
        assert len(ids(done(m3gal("predict", "-", "-k", 99, stdin="cafe\n")))) == PLACES - 1
    finally:
        shutil.rmtree(folder)


def test_answers_after_updates_are_those_of_a_new_index(here: Path, index: Path, tmp_path: Path) -> None:
    rows = {f"p{i}": shop(i) for i in range(PLACES)}
    moved = ["p3", rows["p3"][1], 24.95, 60.14, "555-3"]
    renamed = ["p4", "renamed school 4", *rows["p4"][2:]]
    called = [*rows["p5"][:4], "112"]
    added = write_csv(tmp_path / "more.csv", COLUMNS, [list(TOWER.values()), moved, renamed, called, rows["p6"]])
    answer = done(m3gal("index", "add", added, "--index-dir", index, "--json")).json()
    assert {key: answer[key] for key in ("added", "changed", "unchanged", "removed")} == {
        "added": 1,
        "changed": 3,
        "unchanged": 1,
        "removed": 0,
    }
    assert answer["encoded"] == 2, "the text of a POI that moved, or whose phone changed, is known"
    removed = done(m3gal("index", "delete", "p7", "p8", "--index-dir", index, "--json")).json()
    assert removed["removed"] == 2
    rows |= {"tower": list(TOWER.values()), "p3": moved, "p4": renamed, "p5": called}
    kept = [row for key, row in rows.items() if key not in ("p7", "p8")]
    fresh = build(tmp_path / "fresh", write_csv(tmp_path / "all.csv", COLUMNS, kept))
    assert matches(ask(index)) == matches(ask(fresh))
    assert matches(ask(index, "--no-rerank")) == matches(ask(fresh, "--no-rerank"))
    assert ids(ask(index)) == {row[0] for row in kept}
    done(m3gal("index", "compact", "--index-dir", index))
    assert matches(ask(index)) == matches(ask(fresh))
    assert (facts(index)["segments"], facts(index)["deleted"]) == ([len(kept)], 0)


def test_pois_are_added_from_stdin(index: Path) -> None:
    answer = done(m3gal("index", "add", "-", "--index-dir", index, stdin=json.dumps(TOWER) + "\n"))
    assert answer.out.startswith("stdin: 1 added")
    assert "tower" in ids(ask(index))
    wrong = m3gal("index", "add", "-", "--index-dir", index, stdin=json.dumps(TOWER | {"lat": 91}) + "\n")
    assert (wrong.code, wrong.out) == (2, "")
    assert "<stdin>" in wrong.err
    assert "stdin.jsonl" not in wrong.err


def test_a_table_is_not_added_with_another_datum_than_that_of_the_index_unawares(here: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "cn.csv", COLUMNS, [["p1", "Alpha Cafe, Nanjing Road 1", 121.47, 31.23, "1"]])
    options = ("--index-dir", tmp_path / "index")
    done(m3gal("index", "build", "--pois", tmp_path / "cn.csv", "--datum", "gcj02", *options))
    refused = m3gal("index", "add", tmp_path / "cn.csv", *options)
    assert (refused.code, refused.out) == (2, "")
    assert "the table of the index was read with --datum gcj02" in refused.err
    assert "Name the datum of cn.csv: --datum gcj02 or --datum wgs84." in refused.err
    assert "1 unchanged" in done(m3gal("index", "add", tmp_path / "cn.csv", "--datum", "gcj02", *options)).out
    assert "1 changed" in done(m3gal("index", "add", tmp_path / "cn.csv", "--datum", "wgs84", *options)).out


def test_a_table_without_ids_is_not_added(index: Path, tmp_path: Path) -> None:
    """Its row numbers would replace the POIs with these ids."""
    before = file_contents(index)
    table = write_csv(tmp_path / "plain.csv", ["address", "lng", "lat"], [list(place(1))])
    answer = m3gal("index", "add", table, "--index-dir", index)
    assert (answer.code, answer.out) == (2, "")
    assert "plain.csv: no column of ids" in answer.err
    assert file_contents(index) == before


def test_ids_that_are_row_numbers_give_a_warning(here: Path, index: Path, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "plain.csv", ["address", "lng", "lat"], [list(place(1)), list(place(2))])
    given = ("index", "add", "-", "--index-dir", build(tmp_path / "plain", table))
    answer = done(m3gal(*given, stdin=json.dumps(TOWER | {"poi_id": 1})))
    assert answer.out.startswith("stdin: 0 added, 1 changed, 0 unchanged; 1 text encoded in ")
    assert "are row numbers" in answer.err
    assert "are row numbers" not in done(m3gal("index", "add", here / "shops.csv", "--index-dir", index)).err


def test_unknown_ids_are_named_and_the_known_ones_are_deleted(index: Path, tmp_path: Path) -> None:
    unknown = [f"x{i}" for i in range(12)]
    listed = tmp_path / "ids.txt"
    listed.write_text("p1\n\n" + "\n".join(unknown) + "\n", encoding="utf-8")
    answer = m3gal("index", "delete", "p2", "--from", listed, "--index-dir", index)
    assert (answer.code, answer.out) == (1, "2 removed\n")
    assert f"12 ids are not in the index: {', '.join(unknown[:10])} and 2 more\n" in answer.err
    assert ids(ask(index)) == {f"p{i}" for i in range(PLACES)} - {"p1", "p2"}
    before = file_contents(index)
    again = m3gal("index", "delete", "--from", "-", "--index-dir", index, stdin="p1\np2\n")
    assert (again.code, again.out) == (2, "")
    assert "none of these ids is in the index: p1, p2\n" in again.err
    assert file_contents(index) == before
    assert "no ids to delete" in m3gal("index", "delete", "--index-dir", index).err


def test_info_counts_rows_and_bytes(index: Path, tmp_path: Path) -> None:
    twin = [["twin", *shop(1)[1:]], list(TOWER.values())]
    done(m3gal("index", "add", write_csv(tmp_path / "t.csv", COLUMNS, twin), "--index-dir", index))
    done(m3gal("index", "delete", "p0", "p2", "--index-dir", index))
    found = facts(index)
    assert (found["pois"], found["deleted"], found["duplicates"]) == (PLACES + 1 - 2, 2, 1)
    assert found["segments"] == [PLACES, 2]
    assert found["columns"] == ["phone"]
    assert (found["table"], found["edited"], found["model_opens"]) == ("shops.csv", True, True)
    stored = sum(len(content) for content in file_contents(index).values())
    assert 0.5 * stored < found["nbytes"] <= stored
    shown = done(m3gal("index", "info", "--index-dir", index)).out
    assert "shops.csv, changed since by add or delete" in shown
    done(m3gal("index", "delete", "p1", "--index-dir", index))
    assert facts(index)["duplicates"] == 0
    assert "twin" in ids(ask(index)), "a duplicate takes the place of the deleted POI"


def test_a_missing_index_is_an_error(here: Path, tmp_path: Path) -> None:
    for command in (("info",), ("delete", "p1"), ("compact",), ("add", here / "shops.csv")):
        answer = m3gal("index", *command, "--index-dir", tmp_path / "none")
        assert (answer.code, answer.out) == (2, "")
        assert f"{tmp_path / 'none'}: no index\n" in answer.err
        assert "m3gal index build" in answer.err
    assert not (tmp_path / "none").exists()


# --- which table an index follows -------------------------------------------------------------------------------------


def test_a_named_table_that_differs_brings_the_index_up_to_date(
    here: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "shops.csv"
    rows = [shop(i) for i in range(1, PLACES)]
    rows[4][1] = "renamed library 5"
    write_csv(table, COLUMNS, [*rows, list(TOWER.values())])
    answer = ask(index, "--pois", table)
    assert "brought up to date with shops.csv: 1 added, 1 removed, 1 changed; 2 texts encoded\n" in answer.err
    assert ids(answer) == {row[0] for row in rows} | {"tower"}
    assert matches(answer) == matches(ask(build(tmp_path / "fresh", table)))
    assert "up to date" not in ask(index, "--pois", table).err
    monkeypatch.setattr("m3gal_cli.text.addresses.TEXT_VERSION", 99)
    other_rules = ask(index, "--pois", table).err
    assert "brought up to date with shops.csv: no POI changed\n" in other_rules, "as for other rules of address texts"


def test_a_named_table_replaces_updates_by_hand_but_the_table_of_the_run_does_not(here: Path) -> None:
    folder, table = here / "runs/only/index/poi_database_town", here / "data/poi_database_town.csv"
    content, ask_run = table.read_text(), ("predict", "-", "-k", 99)
    try:
        done(m3gal("index", "build"))
        done(m3gal("index", "delete", "3"))
        table.write_text(content + "late kiosk,24.9,60.1\n")
        kept = done(m3gal(*ask_run, stdin="late kiosk\n"))
        assert len(kept.lines()[0]["matches"]) == PLACES - 1
        assert "because POIs were added or deleted by hand; --pois" in kept.err
        named = done(m3gal(*ask_run, "--pois", table, stdin="late kiosk\n"))
        assert len(named.lines()[0]["matches"]) == PLACES + 1
        table.write_text(content)
        implied = done(m3gal(*ask_run, stdin="late kiosk\n"))
        assert len(implied.lines()[0]["matches"]) == PLACES, (
            "the index equalled its table again, so it follows the run's"
        )
        assert "1 removed" in implied.err
    finally:
        table.write_text(content)
        shutil.rmtree(folder)


def test_an_index_alone_ignores_newer_runs_and_a_data_folder(
    here: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ask(index)
    other = tmp_path / "elsewhere"
    town_with_run(other, "newer", steps=2)
    write_csv(other / "data/poi_database_town.csv", ["address", "lng", "lat"], [list(place(1))])
    monkeypatch.chdir(other)
    before = file_contents(index)
    found = ask(index)
    assert found.out == wanted.out
    assert "(the model of the index)" in found.err
    assert file_contents(index) == before
    assert (m3gal("index", "add", "-", "--index-dir", index, stdin=json.dumps(TOWER) + "\n")).code == 0


def test_the_table_of_the_run_does_not_replace_another_one(here: Path, index: Path) -> None:
    answer = ask(index, "--checkpoint", "runs/only")
    assert ids(answer) == {f"p{i}" for i in range(PLACES)}, "the table of the run has no such ids"
    assert "up to date" not in answer.err


# --- which model an index has -----------------------------------------------------------------------------------------


def test_a_moved_project_keeps_its_index(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(here, old, symlinks=True)
    monkeypatch.chdir(old)
    wanted = ask(build(old / "index", old / "shops.csv"))
    monkeypatch.chdir(tmp_path)
    old.rename(new)
    assert ask(Path("new/index")).out == wanted.out


def test_a_missing_model_is_named(here: Path, index: Path, tmp_path: Path) -> None:
    wanted = ask(index)
    moved = tmp_path / "far" / "away" / "index"
    moved.parent.mkdir(parents=True)
    index.rename(moved)
    answer = m3gal("predict", "-", "--index-dir", moved, stdin=QUERIES)
    assert (answer.code, answer.out) == (2, "")
    assert f"{moved}: the model of the index is missing: " in answer.err
    assert "--checkpoint" in answer.err
    assert facts(moved)["model_opens"] is False
    assert "missing" in done(m3gal("index", "info", "--index-dir", moved)).out
    assert ask(moved, "--checkpoint", "runs/only").out == wanted.out
    done(m3gal("index", "delete", "p1", "--index-dir", moved))
    assert m3gal("index", "add", "-", "--index-dir", moved, stdin=json.dumps(TOWER)).code == 2


@pytest.fixture(scope="module")
def other_run(base: Path) -> Path:
    return train("pretrain", base / "data/tiny.yaml", "other", "--max-steps", 2).run


def test_an_index_of_another_model_is_built_again_only_from_its_table(
    here: Path, index: Path, other_run: Path, tmp_path: Path
) -> None:
    given = ("predict", "-", "-k", 99, "--index-dir", index, "--checkpoint", other_run)
    before = file_contents(index)
    answer = m3gal(*given, stdin=QUERIES)
    assert (answer.code, answer.out) == (2, "")
    assert "it is of another model, and the index is not built again: no POI table is given" in answer.err
    refused = m3gal("index", "add", "-", "--index-dir", index, "--checkpoint", other_run, stdin=json.dumps(TOWER))
    assert "the index was not built with the model" in refused.err
    assert file_contents(index) == before
    done(m3gal("index", "delete", "p1", "--index-dir", index))
    again = done(m3gal(*given, "--pois", here / "shops.csv", stdin=QUERIES))
    assert "was built with another model" in again.err
    assert ids(again) == {f"p{i}" for i in range(PLACES)}
    assert facts(index)["edited"] is False


def test_an_edited_index_of_another_model_is_not_built_again_from_the_table_of_the_run(
    here: Path, other_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    done(m3gal("index", "build", "--checkpoint", "runs/only", "--index-dir", folder))
    done(m3gal("index", "delete", "1", "--index-dir", folder))
    before = file_contents(folder)
    given = ("predict", "-", "-k", 99, "--index-dir", folder, "--checkpoint", other_run)
    answer = m3gal(*given, stdin=QUERIES)
    assert (answer.code, answer.out) == (2, "")
    assert "not built again: POIs were added to it or deleted from it by hand" in answer.err
    assert file_contents(folder) == before


def test_an_exported_file_is_no_index_folder(here: Path, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK")
    for given in (("predict", "-"), ("index", "info"), ("index", "build")):
        answer = m3gal(*given, "--index-dir", tmp_path / "x.zip", stdin="cafe\n")
        assert answer.code == 2
        assert f"unzip {tmp_path / 'x.zip'} -d FOLDER" in answer.err


def test_own_columns_come_back(index: Path) -> None:
    answer = ask(index, "--with", "phone")
    phones = {m["poi_id"]: m["phone"] for m in answer.lines()[0]["matches"]}
    assert phones == {f"p{i}": f"555-{i}" for i in range(PLACES)}


def test_a_build_prepares_approximate_search(here: Path, tmp_path: Path) -> None:
    given = ("--pois", here / "shops.csv", "--index-dir", tmp_path / "i", "--index", "ann")
    done(m3gal("index", "build", *given))
    before = file_contents(tmp_path)
    assert ids(done(m3gal("predict", "-", "-k", 99, *given, stdin="cafe\n"))) == {f"p{i}" for i in range(PLACES)}
    assert file_contents(tmp_path) == before


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_json_lines_and_csv_add_the_same(index: Path, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "a.csv", COLUMNS, [list(TOWER.values())])
    done(m3gal("index", "add", table, "--index-dir", index))
    rows = write_lines(tmp_path / "a.jsonl", [TOWER | {"phone": read(table)[0]["phone"]}])
    assert done(m3gal("index", "add", rows, "--index-dir", index)).out.startswith(
        "a.jsonl: 0 added, 0 changed, 1 unchanged"
    )
