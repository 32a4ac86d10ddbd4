"""What the vectors of POIs come from: a change to any of it shows, a change to anything else does not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from m3gal_cli.compat.checkpoint_sources import published_poi_sources
from m3gal_cli.compat.checkpoints import save_published
from m3gal_cli.core.checkpoint import save_checkpoint
from m3gal_cli.core.checkpoint_layout import poi_sources
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.errors import InputError
from tests.helpers.toy_models import toy_checkpoint


def hash_of(sources: tuple[list[Path], dict[str, Any]]) -> tuple[str, str]:
    files, also = sources
    return Fingerprint(tuple(files)).sha256(), json.dumps(also)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "one", toy_checkpoint())
    return tmp_path / "one"


@pytest.mark.parametrize(
    ("file", "decides"),
    [
        ("poi_encoder/model.safetensors", True),
        ("location_encoder/model.safetensors", True),
        ("query_encoder/tokenizer.json", True),  # the one that is read for both sides
        ("query_encoder/config.json", True),
        ("query_encoder/model.safetensors", False),
        ("location_encoder/online.safetensors", False),
        ("README.md", False),
    ],
)
def test_files_of_a_checkpoint(saved: Path, file: str, decides: bool) -> None:
    before = hash_of(poi_sources(saved))
    with (saved / file).open("ab") as opened:
        opened.write(b" ")
    assert (hash_of(poi_sources(saved)) != before) == decides


def test_settings_of_a_checkpoint(tmp_path: Path, saved: Path) -> None:
    before = hash_of(poi_sources(saved))
    for number, (settings, decides) in enumerate(
        [({}, False), ({"query_prefix": "q"}, False), ({"passage_prefix": "p"}, True), ({"max_length": 9}, True)]
    ):
        other = Path(shutil.copytree(saved, tmp_path / str(number)))
        meta = json.loads((other / "m3gal.json").read_text())
        (other / "m3gal.json").write_text(json.dumps(meta | {"epoch": 9, "settings": meta["settings"] | settings}))
        assert (hash_of(poi_sources(other)) != before) == decides, settings


def test_a_link_is_followed_once(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "best").symlink_to("one")
    files, _ = poi_sources(tmp_path / "best")
    assert all(path.is_relative_to(saved) for path in files)


def test_format_1(tmp_path: Path) -> None:
    checkpoint = toy_checkpoint()
    save_file(checkpoint.model.state_dict(), tmp_path / "model.safetensors")
    checkpoint.model.encoder_q.text_encoder.config.save_pretrained(tmp_path / "text_encoder")
    checkpoint.tokenizer.save_pretrained(tmp_path / "text_encoder")
    meta = {"format": 1, "settings": checkpoint.model.settings.to_json()}
    (tmp_path / "m3gal.json").write_text(json.dumps(meta))
    files, also = poi_sources(tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in files]
    assert names == ["model.safetensors", *sorted(f"text_encoder/{n}" for n in os.listdir(tmp_path / "text_encoder"))]
    assert also["format"] == 1


def test_a_published_file(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "c.pth.tar"
    save_published(path, toy_checkpoint(), {}, {})
    encoder = saved / "query_encoder"
    before = hash_of(published_poi_sources(path, str(encoder), ModelSettings()))
    assert hash_of(published_poi_sources(path, str(encoder), ModelSettings(query_prefix="q"))) == before
    assert hash_of(published_poi_sources(path, str(encoder), ModelSettings(append_sep=False))) != before
    (encoder / "model.safetensors").unlink()
    assert hash_of(published_poi_sources(path, str(encoder), ModelSettings())) == before, "its weights are not used"
    files, also = published_poi_sources(path, "someone/encoder", ModelSettings())
    assert (files, also["text_encoder"]) == ([path], "someone/encoder")


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    for text in (None, "{", "[]", '{"format": 2}', '{"format": 2, "settings": 3}'):
        if text is not None:
            (tmp_path / "m3gal.json").write_text(text)
        with pytest.raises(InputError, match=r"cannot read the checkpoint|is no checkpoint"):
            poi_sources(tmp_path)
