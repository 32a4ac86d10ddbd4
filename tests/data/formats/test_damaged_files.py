"""Damaged files of every format give rows or an InputError with a hint, never another exception."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from m3gal_cli.data.formats import TableOptions, open_table
from m3gal_cli.errors import InputError
from tests.helpers.damage import damaged
from tests.helpers.table_files import FILES

MUTATIONS = 300


def read_or_refuse(path: Path, options: TableOptions) -> InputError | None:
    """Read a whole table; return the error if it is refused."""
    try:
        with open_table(path, options) as table:
            for batch in table.batches():
                batch.table.validate(full=True)
                assert batch.table.column_names == table.columns
                assert str(path) in batch.positions(len(batch.table) - 1)
    except InputError as error:
        return error
    return None


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_gives_rows_or_an_input_error(tmp_path: Path, name: str) -> None:
    generator, whole, errors = random.Random(name), FILES[name](), []
    for i in range(MUTATIONS):
        damage = damaged(whole, generator)
        (tmp_path / name).write_bytes(damaged(damage, generator) if i % 3 == 0 else damage)
        bad: list[object] = []
        errors.append(read_or_refuse(tmp_path / name, TableOptions(bad.append if i % 2 else None)))
    refused = [error for error in errors if error is not None]
    assert 0 < len(refused) < MUTATIONS, "damage is neither always noticed nor never"
    assert all(e.hint and str(tmp_path) in str(e.where) and "\n" not in e.what for e in refused)


def test_random_bytes_are_refused_or_read_as_text(tmp_path: Path) -> None:
    generator, path = random.Random(0), tmp_path / "bytes"
    for _ in range(MUTATIONS):
        path.write_bytes(generator.randbytes(generator.randrange(1, 400)))
        error = read_or_refuse(path, TableOptions())
        assert error is None or error.hint
