"""An exported index answers alone: unpacked anywhere, read-only, as another user, without run and table."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from m3gal_cli.compat.checkpoints import save_published
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.core.checkpoint_layout import META_FILE
from m3gal_cli.files import read_json
from m3gal_cli.index.manifest import MANIFEST
from m3gal_cli.matching import bundle
from tests.helpers.cli import ROOT, done, file_contents, m3gal
from tests.helpers.sample_town import PLACES, place, town_with_run, write_csv

QUERIES = "north street cafe\ncastle hill museum\nmill lane school 41\n"
NOBODY = 65534


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``runs/only``, and an index with deleted POIs and two segments."""
    folder = town_with_run(tmp_path_factory.mktemp("bundle"))
    meta = folder / "runs/only/best" / META_FILE
    data = {"attribution": ["© OpenStreetMap contributors"], "languages": ["fi"], "licence": "odbl"}
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"data": data}), encoding="utf-8")
    config = folder / "runs/only/best/query_encoder/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_name_or_path": str(folder)}), encoding="utf-8")
    header = ["poi_id", "address", "lng", "lat", "phone"]
    rows = [[f"p{i}", *place(i), f"555-{i}"] for i in range(PLACES)]
    write_csv(folder / "shops.csv", header, rows[:-2])
    write_csv(folder / "more.csv", header, rows[-2:])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done(m3gal("index", "build", "--pois", "shops.csv", "--index-dir", "index", "--index", "ann"))
        done(m3gal("index", "add", "more.csv", "--index-dir", "index"))
        done(m3gal("index", "delete", "p1", "p2", "--index-dir", "index"))
    return folder


def ask(index: Path | str, *options: object) -> list[dict[str, object]]:
    return done(
        m3gal("predict", "-", "-k", 99, "--index-dir", index, "--with", "phone", *options, stdin=QUERIES)
    ).lines()


def export(target: Path, *options: object) -> Path:
    done(m3gal("index", "export", target, "--index-dir", "index", *options))
    return target


def unpacked(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        file.extractall(folder)
    return folder


def test_the_answers_are_the_same_without_run_and_table(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ask("index")
    copy = unpacked(export(tmp_path / "town.zip"), tmp_path / "far" / "index")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    before = file_contents(copy)
    assert ask(copy) == wanted
    assert ask(copy, "--index", "ann") == ask(copy, "--index", "exact")
    assert file_contents(copy) == before
    info = done(m3gal("index", "info", "--index-dir", copy, "--json")).json()
    assert (info["pois"], info["model"], info["model_opens"]) == (PLACES - 2, "model", True)


def test_an_unpacked_index_can_be_updated_and_exported_again(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = export(tmp_path / "town.zip")
    copy = unpacked(archive, tmp_path / "copy")
    again = tmp_path / "again.zip"
    done(m3gal("index", "export", again, "--index-dir", copy))
    assert again.read_bytes() == archive.read_bytes()
    monkeypatch.chdir(tmp_path)
    line = json.dumps({"poi_id": "new", "address": "new tower 1", "lng": 24.9, "lat": 60.1})
    assert done(m3gal("index", "add", "-", "--index-dir", copy, stdin=line)).out.startswith("stdin: 1 added")
    assert len(ask(copy)[0]["matches"]) == PLACES - 1  # type: ignore[arg-type]


def test_the_file_holds_the_snapshot_only_and_is_reproducible(here: Path, tmp_path: Path) -> None:
    first = export(tmp_path / "a.zip")
    (here / "index/building").mkdir()
    (here / "index/building/left.npy").write_bytes(b"left")
    shutil.copytree(next((here / "index/segments").iterdir()), here / "index/segments/unused")
    try:
        second = export(tmp_path / "b.zip")
    finally:
        shutil.rmtree(here / "index/building")
        shutil.rmtree(here / "index/segments/unused")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as file:
        names = file.namelist()
    assert names == sorted(names)
    assert {name.split("/")[0] for name in names} == {MANIFEST, "README.md", "model", "segments"}
    states = [name for name in names if "states" in name]
    assert len(states) == 2, "one file of states for each segment"
    model = {name.removeprefix("model/") for name in names if name.startswith("model/")}
    assert {"m3gal.json", "README.md", "config.yaml", "query_encoder/model.safetensors"} <= model
    assert not any(name.endswith(("trainer.pt", "online.safetensors")) for name in model)


def test_the_file_names_neither_paths_nor_machine(here: Path, tmp_path: Path) -> None:
    archive = export(tmp_path / "town.zip", "--set", "eval.uri=http://milvus.internal:19530")
    content = archive.read_bytes()
    secrets = [str(tmp_path), str(here), str(ROOT), str(Path.home()), socket.gethostname(), "milvus.internal"]
    assert [secret for secret in secrets if len(secret) > 3 and secret.encode() in content] == []
    with zipfile.ZipFile(archive) as file:
        readme = file.read("README.md").decode()
    assert "© OpenStreetMap contributors" in readme
    assert "Licence of the weights: odbl" in readme
    assert f"{PLACES - 2} POIs" in readme
    assert "shops.csv" in readme


def test_a_published_checkpoint_is_exported_as_a_checkpoint_directory(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published, encoder = tmp_path / "c.pth.tar", here / "runs/only/last/query_encoder"
    save_published(published, load_checkpoint(here / "runs/only/last"), {}, {})
    model = ("--checkpoint", published, "-c", here / "data/tiny.yaml", "--text-encoder", encoder)
    given = (*model, "--index-dir", tmp_path / "index")
    done(m3gal("index", "build", *given, "--pois", "shops.csv"))
    wanted = done(m3gal("predict", "-", *given, "--pois", "shops.csv", stdin=QUERIES)).lines()
    done(m3gal("index", "export", tmp_path / "p.zip", *given))
    copy = unpacked(tmp_path / "p.zip", tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    published.unlink()
    found = done(m3gal("predict", "-", "--index-dir", copy, stdin=QUERIES)).lines()
    assert found == wanted
    manifest = read_json(copy / MANIFEST)
    assert manifest["model"]["sha256"] != read_json(tmp_path / "index" / MANIFEST)["model"]["sha256"]


def test_a_failed_export_leaves_the_old_file(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = export(tmp_path / "town.zip")
    before = file_contents(tmp_path)

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "_write", fail)
    answer = m3gal("index", "export", archive, "--index-dir", "index")
    assert (answer.code, answer.out) == (2, "")
    assert f"{archive}: cannot write (No space left on device)" in answer.err
    assert file_contents(tmp_path) == before


def test_a_snapshot_that_is_replaced_during_the_export_is_read_again(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, write, calls = export(tmp_path / "a.zip").read_bytes(), bundle._write, []

    def vanish(*given: object) -> int:
        calls.append(given)
        if len(calls) < 3:
            raise FileNotFoundError(2, "No such file or directory", "states.7.npy")
        return write(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(bundle, "_write", vanish)
    assert export(tmp_path / "b.zip").read_bytes() == wanted
    assert len(calls) == 3


def test_wrong_targets_and_models_are_refused(here: Path, tmp_path: Path) -> None:
    answer = m3gal("index", "export", tmp_path / "town.tar", "--index-dir", "index")
    assert (answer.code, os.listdir(tmp_path)) == (2, [])
    assert "Give a name that ends in .zip." in answer.err
    other = done(m3gal("pretrain", "-c", "data/tiny.yaml", "--max-steps", 2, "--runs-dir", tmp_path / "runs"))
    refused = m3gal("index", "export", tmp_path / "t.zip", "--index-dir", "index", "--checkpoint", other.run)
    assert refused.code == 2
    assert "the index was not built with the model" in refused.err
    assert not (tmp_path / "t.zip").exists()


def other_user() -> list[str]:
    """Return the command that runs another one as a user who may not write; empty if this user already is none."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    probe = [*prefix, sys.executable, "-c", "import m3gal_cli"]
    if shutil.which("setpriv") is None or subprocess.run(probe, cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED as another user: this process is root and cannot start Python as a user without rights")
    return prefix


@pytest.mark.slow  # not in the integration tier: its user namespace has one user only
def test_another_user_asks_a_read_only_copy(here: Path, tmp_path: Path) -> None:
    wanted = ask("index")
    copy, home = unpacked(export(tmp_path / "town.zip"), tmp_path / "copy"), tmp_path / "home"
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    subprocess.run(["chmod", "-R", "a-w,a+rX", str(copy)], check=True)
    options = ["-k", "99", "--with", "phone", "--index-dir", str(copy)]
    command = [sys.executable, "-m", "m3gal_cli", "predict", "-", *options]
    if prefix := other_user():
        for folder in (*tmp_path.parents, tmp_path):
            if folder.stat().st_uid == 0 and folder.is_relative_to("/tmp") and folder != Path("/tmp"):
                folder.chmod(folder.stat().st_mode | 0o055)
        command = [*prefix, *command]
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for search in ([], ["--index", "ann"]):
        answer = subprocess.run(
            [*command, *search], input=QUERIES.encode(), capture_output=True, cwd=home, env=environment, check=False
        )
        assert answer.returncode == 0, answer.stderr.decode()
        assert [json.loads(line) for line in answer.stdout.splitlines()] == wanted
