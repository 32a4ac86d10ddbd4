"""What the parts of a POI row are."""

from __future__ import annotations

import pytest

from m3gal_cli.text.addresses import parts_of


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ("星光药房,医疗,药房,文三路9号,西湖区", ("星光药房", ("医疗", "药房"), "文三路9号", "西湖区")),
        ("星光药房，医疗，文三路9号，西湖区", ("星光药房", ("医疗",), "文三路9号", "西湖区")),
        ("Kappeli, cafe, Eteläesplanadi 1, Kluuvi", ("Kappeli", ("cafe",), "Eteläesplanadi 1", "Kluuvi")),
        ("星光药房,医疗,[],西湖区", ("星光药房", ("医疗",), "", "西湖区")),
        ("星光药房,[],[],[]", ("星光药房", (), "", "")),
        ("星光药房,文三路9号,西湖区", ("星光药房", (), "文三路9号", "西湖区")),
        ("星光药房,文三路9号", ("星光药房", (), "文三路9号", "")),
        ("星光药房", ("星光药房", (), "", "")),
        ("", ("", (), "", "")),
    ],
)
def test_parts_of_a_row(row: str, parts: tuple[str, tuple[str, ...], str, str]) -> None:
    assert parts_of(row) == parts
