"""Sources of settings, their precedence, and the errors for wrong ones."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from m3gal_cli.config.load import (
    config_from_file,
    dump_config,
    find_profile,
    known_keys,
    load_config,
    profile_names,
    profile_summary,
    profiles_folder,
)
from m3gal_cli.config.options import SETTING_OF
from m3gal_cli.config.schema import Config
from m3gal_cli.errors import InputError


def get(config: Config, dotted: str) -> Any:
    return reduce(getattr, dotted.split("."), config)


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def load(*sets: str, profile: str | None = None, environ: dict[str, str] | None = None, **overrides: Any) -> Config:
    """Call load_config with an empty environment by default."""
    return load_config(profile, overrides, sets, environ or {})


def wrong(*sets: str, **sources: Any) -> list[str]:
    """Return the lines of the error, without its hint."""
    with pytest.raises(InputError) as caught:
        load(*sets, **sources)
    return caught.value.what.splitlines()


def test_a_later_source_overrides_an_earlier_one(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "optim: {lr: 0.1, clip: 3}\neval: {top_k: 11}")
    profile = write(tmp_path / "mine.yaml", "extends: base.yaml\noptim: {lr: 0.2}")
    environ, option, sets = {"M3GAL_OPTIM__LR": "0.3"}, {"optim.lr": 0.4}, ("optim.lr=0.5", "optim.lr=0.6")
    for wanted, sources in (
        (Config().optim.lr, {}),
        (0.1, {"profile": str(tmp_path / "base.yaml")}),
        (0.2, {"profile": profile}),
        (0.3, {"profile": profile, "environ": environ}),
        (0.4, {"profile": profile, "environ": environ, "overrides": option}),
        (0.6, {"profile": profile, "environ": environ, "overrides": option, "sets": sets}),
    ):
        config = load_config(**{"environ": {}, **sources})
        assert config.optim.lr == wanted
        if "profile" in sources:
            assert (config.optim.clip, config.eval.top_k) == (3, 11), "other settings stay"
        assert config.optim.batch_size == Config().optim.batch_size


def test_load_config_reads_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("M3GAL_MOMENTUM__QUEUE_SIZE", "77"), ("M3GAL_SEED", "5"), ("M3GAL_DEVICE", "cpu")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("M3GAL_ANYTHING", "not a setting: it has no section")
    config = load_config(overrides={"seed": None})
    assert (config.momentum.queue_size, config.seed, config.device) == (77, 5, "cpu")


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("optim.lr", "1e-4", 1e-4),
        ("optim.schedule", "[10, 20]", [10, 20]),
        ("optim.freeze", "[word_embeddings, pooler]", ["word_embeddings", "pooler"]),
        ("optim.clip", "null", None),
        ("optim.in_batch", "true", True),
        ("optim.loss", "total_loss", "fused"),
        ("device", "cuda:1", "cuda:1"),
        ("data.suffix", "", None),
        ("data.suffix", "null", None),
        # Texts are kept literally, whatever YAML would make of them.
        ("run.name", "007", "007"),
        ("run.name", "2024-01-02", "2024-01-02"),
        ("run.name", "[a", "[a"),
        ("run.name", "a=b", "a=b"),
        ("data.views", "my town #2.csv", "my town #2.csv"),
        ("data.dir", "null", "null"),
        ("model.query_prefix", "query: ", "query: "),
        ("model.query_prefix", "", ""),
        ("model.query_prefix", "' in quotes: '", " in quotes: "),
        ("model.query_prefix", '"a\\tb"', "a\tb"),
    ],
)
def test_values_of_set_and_environment_are_parsed(key: str, typed: str, value: Any) -> None:
    found = get(load(f"{key}={typed}"), key)
    assert found == value
    assert type(found) is type(value)
    if "." in key:
        name = "M3GAL_" + key.upper().replace(".", "__")
        assert get(load(environ={name: typed}), key) == value


def test_the_four_numbers_of_a_normalizer_replace_fit_and_the_other_way_round(tmp_path: Path) -> None:
    parts = {"lng_mean": 120.5, "lng_std": 0.1, "lat_mean": 30.5, "lat_std": 0.2}
    config = load(*(f"model.normalizer.{name}={value}" for name, value in parts.items()))
    assert config.model.normalizer.model_dump() == parts
    write(tmp_path / "a.yaml", "extends: paper.yaml\nmodel: {normalizer: fit}")
    numbers = ", ".join(f"{name}: {value}" for name, value in parts.items())
    profile = write(tmp_path / "b.yaml", f"extends: a.yaml\nmodel: {{normalizer: {{{numbers}}}}}")
    assert load(profile=str(tmp_path / "a.yaml")).model.normalizer == "fit"
    assert load(profile=profile).model.normalizer.model_dump() == parts


@pytest.mark.parametrize(
    ("key", "unknown", "closest"),
    [
        ("optim.lrr", "optim.lrr", "optim.lr"),
        ("lr", "lr", "optim.lr"),
        ("model.scratch.hiden", "model.scratch.hiden", "model.scratch.hidden"),
        ("modle.pooling", "modle", "model"),
        ("xyzzy", "xyzzy", None),
    ],
)
def test_the_error_for_an_unknown_key_has_the_closest_known_one(key: str, unknown: str, closest: str | None) -> None:
    hint = f" Did you mean {closest}?" if closest else ""
    assert wrong(f"{key}=1") == [f"unknown key {unknown!r} (--set {key}).{hint}"]
    name = "M3GAL_" + key.upper().replace(".", "__")
    if "." in key:
        assert wrong(environ={name: "1"}) == [f"unknown key {unknown!r} (environment {name}).{hint}"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim.lr=fast", "optim.lr: input should be a valid number, unable to parse string as a number, got 'fast'"),
        ("optim.lr=-1", "optim.lr: input should be greater than 0, got -1"),
        ("optim.lr=.nan", "optim.lr: input should be a finite number, got nan"),
        ("optim.loss=both", "optim.loss: input should be 'fused', 'text', 'location' or 'separate', got 'both'"),
        ("optim=3", "optim: input should be a valid dictionary"),
        ("model.normalizer=none", "model.normalizer: input should be 'fit', got 'none'"),
        ("model.normalizer.lng_std=0", "model.normalizer.lng_std: input should be greater than 0, got 0"),
        ("device=gpu", "device: expected auto, cpu, cuda, cuda:N or mps, got 'gpu'"),
        ("optim.schedule=[20, 10]", "--schedule (optim.schedule) must rise, got [20, 10]"),
    ],
)
def test_the_error_for_a_wrong_value_has_the_setting_the_rule_and_the_source(text: str, words: str) -> None:
    lines = [line for line in wrong(text) if line.startswith(words)]
    assert len(lines) == 1
    assert lines[0].endswith(f"(--set {text.partition('=')[0]})") or "must rise" in lines[0]


def test_recall_1_is_refused_for_approximate_search_only() -> None:
    (line,) = wrong("eval.recall=1", **{"eval.index": "ann"})
    assert line == "--recall 1 needs --index exact; --index ann takes a value below 1, e.g. 0.99"
    for index in ("auto", "exact", "milvus"):
        assert load("eval.recall=1", **{"eval.index": index}).eval.recall == 1


def test_one_error_has_all_problems_with_their_sources(tmp_path: Path) -> None:
    profile = write(tmp_path / "a.yaml", "optim: {lr: fast, epochs: 0}\ncolour: blue")
    lines = wrong("momentum.text=2", profile=profile, environ={"M3GAL_EVAL__TOP_K": "none"}, **{"run.print_freq": 0})
    sources = {"optim.lr": profile, "optim.epochs": profile, "unknown key 'colour'": profile, "momentum.text": "--set"}
    sources |= {"eval.top_k": "environment M3GAL_EVAL__TOP_K"}
    assert len(lines) == len(sources) + 1
    assert "--log-every: input should be greater than or equal to 1, got 0" in lines, "an option is named as such"
    for start, source in sources.items():
        (line,) = (line for line in lines if line.startswith(start))
        assert f"({source}" in line


@pytest.mark.parametrize("text", ["optim.lr", " =3"])
def test_set_without_a_name_and_an_equals_sign_is_refused(text: str) -> None:
    (line,) = wrong(text)
    assert line == f"--set {text!r} has no '='"


def test_every_packaged_profile_loads_and_has_a_summary() -> None:
    names = profile_names()
    assert {"demo.yaml", "paper.yaml", "osm.yaml", "paper-finetune.yaml", "geotes.yaml", "views.yaml"} <= set(names)
    for name in names:
        assert load(profile=name) != Config()
        assert find_profile(name.removesuffix(".yaml")) == profiles_folder() / name
        assert 5 < len(profile_summary(name).split()) < 30


def test_the_paper_profiles_have_the_published_settings() -> None:
    for name in ("paper.yaml", "osm.yaml", "paper-finetune.yaml"):
        config = load_config(name, environ={})
        model, momentum, optim = config.model, config.momentum, config.optim
        assert (model.pooling, model.append_sep, model.location_encoder) == ("pooler", False, "mlp")
        assert (momentum.queue_size, momentum.queue_fill, momentum.temperature) == (16384, "random", 0.07)
        assert (momentum.mask_same_place, momentum.location_negatives) == (False, "queue")
        assert (optim.name, optim.momentum, optim.loss) == ("sgd", 0.9, "fused")
        assert (optim.weight_decay, optim.location_weight_decay) == (0.0, 1e-4)
    assert load_config("osm", environ={}).model.normalizer == "fit"
    assert load_config("paper-finetune", environ={}).model.normalizer.lng_mean == pytest.approx(
        120.22537389613467, rel=1e-15
    )


def test_a_file_takes_precedence_over_a_packaged_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_profile("osm.yaml") == profiles_folder() / "osm.yaml"
    write(tmp_path / "osm.yaml", "seed: 1")
    assert find_profile("osm.yaml") == Path("osm.yaml")
    assert load_config("osm.yaml", environ={}) == Config(seed=1)
    write(tmp_path / "mine.yaml", "extends: paper\nseed: 3")
    assert load_config("mine.yaml", environ={}) == load_config("paper", {"seed": 3}, environ={})


def test_the_error_for_an_unknown_profile_has_the_closest_name() -> None:
    with pytest.raises(InputError, match=r"papper.yaml: no such configuration file") as caught:
        load_config("papper.yaml", environ={})
    assert "Did you mean paper.yaml?" in str(caught.value.hint)
    with pytest.raises(InputError, match="no such configuration file"):
        load_config("elsewhere/paper.yaml", environ={})


def test_a_profile_extends_another_one_and_an_empty_section_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    write(folder / "a.yaml", "optim: {lr: 0.1, epochs: 2, batch_size: 3}\nmodel: {normalizer: fit}")
    write(folder / "b.yaml", "extends: a.yaml\noptim: {epochs: 4}\nmomentum:\nrun: {}")
    profile = write(folder / "c.yaml", "extends: b.yaml\noptim:\n  batch_size: 5\n  # epochs: 9\n")
    assert load(profile=profile) == Config(optim={"lr": 0.1, "epochs": 4, "batch_size": 5})


def test_a_cycle_of_profiles_is_refused(tmp_path: Path) -> None:
    for name, base in (("a.yaml", "b.yaml"), ("b.yaml", "a.yaml")):
        write(tmp_path / name, f"extends: {base}\nseed: 1")
    with pytest.raises(InputError, match=r"a\.yaml: extends forms a cycle"):
        load(profile=str(tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 1\noptim: {lr: [", r"a\.yaml:2: not YAML"),
        ("seed", "expected sections with keys, got str"),
        ("extends: [paper]", "extends must name one profile"),
        ("extends: papper", "no such configuration file or profile"),
        ("run: {name: 杭州}", "cannot read"),
    ],
)
def test_an_unreadable_profile_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.yaml").write_bytes(text.encode("gbk"))
    with pytest.raises(InputError, match=words):
        load(profile=str(tmp_path / "a.yaml"))


@pytest.mark.parametrize("profile", [None, "paper.yaml"])
def test_dumped_settings_load_unchanged(tmp_path: Path, profile: str | None) -> None:
    sets = ("model.query_prefix='查询: '", "run.name=007", "optim.clip=null", "data.views=a: b #c.csv")
    config = load(*sets, profile=profile)
    text = dump_config(config)
    write(tmp_path / "config.yaml", text)
    assert config_from_file(tmp_path / "config.yaml") == config
    assert load_config(str(tmp_path / "config.yaml"), environ={}) == config
    assert list(yaml.safe_load(text)) == list(Config.model_fields)


def test_known_keys_are_the_leaves_of_the_settings() -> None:
    def leaves(tree: dict[str, Any], prefix: str = "") -> list[str]:
        parts = [leaves(v, f"{prefix}{k}.") if isinstance(v, dict) else [prefix + k] for k, v in tree.items()]
        return [name for part in parts for name in part]

    assert list(known_keys()) == leaves(Config().model_dump())
    assert set(SETTING_OF.values()) <= set(known_keys()), "options set known settings"
