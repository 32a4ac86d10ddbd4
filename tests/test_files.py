"""Existence, gzip by suffix, atomic writing."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, atomic_text, make_folder, open_text, probe_folder, require_file, suffix_of


def test_require_file_tells_missing_folder_and_empty_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    for path, words in (("none.csv", "no such table"), ("", "is a folder"), ("empty.csv", "the table is empty")):
        with pytest.raises(InputError, match=words) as caught:
            require_file(tmp_path / path, "table")
        assert caught.value.where == str(tmp_path / path)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.csv", ".csv"),
        ("a.CSV.GZ", ".csv"),
        ("a.b.jsonl", ".jsonl"),
        ("a.gz", ".gz"),
        ("a", ""),
        ("x.pth.tar", ".tar"),
    ],
)
def test_suffix_of(name: str, suffix: str) -> None:
    assert suffix_of(Path("some.folder") / name) == suffix


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_comes_back_as_written(tmp_path: Path, name: str) -> None:
    text = "湖边路3号\r\n北门\n"
    with atomic_text(tmp_path / name) as file:
        file.write(text)
    with open_text(tmp_path / name) as file:
        assert file.read() == text
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfaddress")
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write(b"\xef\xbb\xbfaddress")
    for name in ("a.csv", "a.csv.gz"):
        with open_text(tmp_path / name) as text:
            assert text.read() == "address"


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")

    def write() -> None:
        with atomic_text(target) as file:
            file.write("half of the new")
            file.flush()
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_path(tmp_path / "new.bin") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert os.listdir(tmp_path) == []


def test_a_written_file_has_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_text(tmp_path / "ours") as file:
        file.write("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_target_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a regular file where a folder should be")
    with pytest.raises(InputError, match="cannot write"):
        make_folder(tmp_path / "file" / "out")
    with pytest.raises(InputError, match="cannot write"), atomic_text(tmp_path / "file" / "a.csv"):
        pass
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(InputError, match="cannot write") as caught, atomic_text(tmp_path / "taken.csv") as file:
        file.write("x")
    assert caught.value.where == str(tmp_path / "taken.csv")
    assert sorted(os.listdir(tmp_path)) == ["file", "taken.csv"]


def test_make_folder_makes_parents_and_leaves_no_trace(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a" / "b")
    assert make_folder(folder) == folder
    assert os.listdir(folder) == []


def test_probing_a_folder_leaves_the_tree_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    for folder in (tmp_path / "old", tmp_path / "old" / "new", tmp_path / "a" / "b" / "c"):
        probe_folder(folder)
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(InputError, match="cannot write there"):
        probe_folder(tmp_path / "file" / "out")
    assert sorted(tmp_path.rglob("*")) == before
