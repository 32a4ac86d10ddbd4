"""The reranker weights that a checkpoint is used with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from m3gal_cli.matching.saved_reranker import load_weights, packaged_weights
from tests.helpers.toy_models import reranker_weights


def test_the_package_takes_the_place_of_weights_of_an_earlier_version_only(tmp_path: Path) -> None:
    messages: list[str] = []
    assert load_weights(tmp_path, messages.append) is None
    (tmp_path / "reranker.json").write_text('{"format": 3}')
    found = load_weights(tmp_path, messages.append)
    assert found is not None
    assert all(np.array_equal(found.arrays[name], value) for name, value in packaged_weights().arrays.items())
    assert [text.startswith(str(tmp_path / "reranker.json")) for text in messages] == [True]
    reranker_weights(7, dense_score=1.0).save(tmp_path)
    own = load_weights(tmp_path, messages.append)
    assert own is not None
    assert own.queries == 7
    assert len(messages) == 1
