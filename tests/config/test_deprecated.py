"""Settings of earlier versions in every source."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3gal_cli.config.deprecated import RENAMED, DeprecatedSettingWarning
from m3gal_cli.config.load import config_from_file, known_keys, load_config
from m3gal_cli.config.schema import Config
from m3gal_cli.errors import InputError

OLD_RUN = """\
data: {max_words: 64, mine: null}
optim: {loss: apart, members: 3}
momentum: {m: 0.9, m_location: 0.8, m_location_increment: 0.2}
eval: {hybrid: false, reranker: null, batch_size: 128}
"""


def test_the_settings_of_an_old_run_load_with_one_warning(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(OLD_RUN)
    with pytest.warns(DeprecatedSettingWarning) as caught:
        config = config_from_file(tmp_path / "config.yaml")
    (warning,) = caught
    assert config == Config(
        data={"max_chars": 64},
        optim={"loss": "separate", "soup_size": 3},
        momentum={"text": 0.9, "location": 0.8, "location_increment": 0.2},
        eval={"rerank": False},
    )
    assert str(warning.message).startswith("renamed settings: data.max_words is now data.max_chars, optim.loss: apart")
    assert "supported" not in str(warning.message), "null is what old runs have for an unset setting"


def test_old_names_work_in_profiles_environment_options_and_set(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: {max_words: 7}")
    with pytest.warns(DeprecatedSettingWarning) as caught:
        config = load_config(
            str(tmp_path / "a.yaml"),
            {"optim.members": 2},
            ["eval.hybrid=false", "momentum.m=0.5"],
            {"M3GAL_MOMENTUM__M_LOCATION": "0.25"},
        )
    assert len(caught) == 1
    values = (config.data.max_chars, config.optim.soup_size, config.eval.rerank)
    assert (*values, config.momentum.text, config.momentum.location) == (7, 2, False, 0.5, 0.25)


def test_a_value_of_a_removed_setting_is_ignored_with_a_warning() -> None:
    with pytest.warns(DeprecatedSettingWarning, match=r"^eval\.reranker is no longer supported$"):
        assert load_config(None, {}, ["eval.reranker=runs/x", "data.mine=null"], {}) == Config()


def test_eval_batch_size_is_unknown_outside_of_files() -> None:
    with pytest.raises(InputError, match=r"unknown key 'eval\.batch_size'"):
        load_config(None, {}, ["eval.batch_size=64"], {})


def test_renamed_settings_exist() -> None:
    assert set(RENAMED.values()) <= set(known_keys())
    assert not set(RENAMED) & set(known_keys())
