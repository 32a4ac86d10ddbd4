"""The files and settings on which the vectors of POIs depend: exactly their changes are noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3gal_cli.core.checkpoint_layout import poi_sources
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.errors import InputError


def state(checkpoint: Path) -> tuple[str, str]:
    files, settings = poi_sources(checkpoint)
    return Fingerprint(tuple(files)).sha256, json.dumps(settings)


@pytest.mark.parametrize(
    ("file", "matters"),
    [
        ("poi_encoder/model.safetensors", True),
        ("location_encoder/model.safetensors", True),
        ("query_encoder/tokenizer.json", True),  # the one that both sides read
        ("query_encoder/config.json", True),
        ("query_encoder/model.safetensors", False),
        ("location_encoder/online.safetensors", False),
        ("README.md", False),
    ],
)
def test_files_on_which_the_vectors_of_pois_depend(saved: Path, file: str, matters: bool) -> None:
    before = state(saved)
    with (saved / file).open("ab") as opened:
        opened.write(b" ")
    assert (state(saved) != before) == matters


@pytest.mark.parametrize(("settings", "matters"), [({"query_prefix": "q"}, False), ({"passage_prefix": "p"}, True)])
def test_settings_on_which_the_vectors_of_pois_depend(saved: Path, settings: dict[str, str], matters: bool) -> None:
    before = state(saved)
    meta = json.loads((saved / "m3gal.json").read_text())
    (saved / "m3gal.json").write_text(json.dumps(meta | {"epoch": 9, "settings": meta["settings"] | settings}))
    assert (state(saved) != before) == matters


def test_format_1_has_one_file_of_weights(tmp_path: Path) -> None:
    names = ("model.safetensors", "text_encoder/config.json", "text_encoder/vocab.txt")
    (tmp_path / "text_encoder").mkdir()
    for name in (*names, "text_encoder/pytorch_model.bin"):
        (tmp_path / name).touch()
    (tmp_path / "m3gal.json").write_text(json.dumps({"format": 1, "settings": {}}))
    (tmp_path / "best").symlink_to(".")
    assert poi_sources(tmp_path / "best") == ([tmp_path / name for name in names], {"format": 1, "settings": {}})


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": 2, "settings": 3}'])
def test_a_folder_without_settings_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "m3gal.json").write_text(content)
    with pytest.raises(InputError, match="cannot read the checkpoint"):
        poi_sources(tmp_path)
