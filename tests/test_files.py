"""Checks of files, gzip by suffix, atomic writing."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text, make_folder, open_text, probe_folder, require_file, stem_of, suffix_of


def test_require_file_distinguishes_missing_folder_and_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    for path, words in (("none.csv", "no such table"), ("", "is a folder"), ("empty.csv", "the table is empty")):
        with pytest.raises(InputError, match=words) as caught:
            require_file(tmp_path / path, "table")
        assert caught.value.where == str(tmp_path / path)


def test_gz_is_no_format() -> None:
    paths = [Path("some.folder") / name for name in ("a.CSV.GZ", "a.b.jsonl", "a.gz", "a", "x.pth.tar")]
    assert [stem_of(path) for path in paths] == ["a", "a.b", "a", "a", "x.pth"]
    assert [suffix_of(path) for path in paths] == [".csv", ".jsonl", ".gz", "", ".tar"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_is_read_as_it_was_written_but_for_a_byte_order_mark(tmp_path: Path, name: str) -> None:
    text = "湖边路3号\r\n北门\n"
    for written in (text, "\ufeff" + text):
        with atomic_text(tmp_path / name) as file:
            file.write(written)
        with open_text(tmp_path / name) as file:
            assert file.read() == text
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")
    assert not name.endswith(".gz") or gzip.decompress((tmp_path / name).read_bytes()).decode() == "\ufeff" + text


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "old.csv").write_text("old")
    for name in ("old.csv", "new.csv"):
        with pytest.raises(error), atomic_text(tmp_path / name) as file:  # noqa: PT012
            file.write("half of the new")
            file.flush()
            raise error("midway")
    assert (tmp_path / "old.csv").read_text() == "old"
    assert os.listdir(tmp_path) == ["old.csv"]


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with atomic_text(tmp_path / "ours") as file:
        file.write("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_target_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file with the name of a folder")
    with pytest.raises(InputError, match="cannot write"):
        make_folder(tmp_path / "file" / "out")
    with pytest.raises(InputError, match="cannot write"), atomic_text(tmp_path / "file" / "a.csv"):
        pass
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(InputError, match="cannot write") as caught, atomic_text(tmp_path / "taken.csv") as file:
        file.write("x")
    assert caught.value.where == str(tmp_path / "taken.csv")
    with pytest.raises(InputError, match="No space left"), atomic_text(tmp_path / "new.csv"):
        raise OSError(28, "No space left on device")
    assert sorted(os.listdir(tmp_path)) == ["file", "taken.csv"]


def test_probing_a_folder_leaves_the_tree_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    for folder in (tmp_path / "old", tmp_path / "old" / "new", tmp_path / "a" / "b" / "c"):
        probe_folder(folder)
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(InputError, match="cannot write there"):
        probe_folder(tmp_path / "file" / "out")
