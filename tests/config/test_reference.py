"""The generated reference of the settings."""

from __future__ import annotations

from m3gal_cli.config.load import known_keys
from m3gal_cli.config.reference import settings_reference


def rows() -> dict[str, list[str]]:
    lines = (line.strip("| ").split(" | ") for line in settings_reference().splitlines() if line.startswith("| `"))
    return {cells[0].strip("`"): cells for cells in lines}


def test_every_setting_has_a_row_with_a_readable_type_and_a_sentence() -> None:
    found = rows()
    assert list(found) == list(known_keys())
    for name, (_, kind, _, meaning) in found.items():
        assert not any(character in kind for character in "[]()"), f"{name}: {kind}"
        assert meaning.rstrip("`").endswith("."), f"{name}: {meaning}"


def test_rows_have_type_default_and_option() -> None:
    found = rows()
    assert found["optim.loss"][1] == "fused, text, location, separate"
    assert found["momentum.location_temperature"][1:3] == ["number", ""]
    assert found["optim.in_batch"][1:3] == ["true, false", "`false`"]
    assert found["optim.lr"][3].endswith("Option: `--lr`.")
    assert found["optim.schedule"][1] == "list of integer"
