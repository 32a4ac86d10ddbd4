"""The parts of an address text."""

from __future__ import annotations

import pytest

from m3gal_cli.text.addresses import parse_address, parse_surroundings


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("星光药房,医疗,药房,文三路9号,西湖区", ("星光药房", ("医疗", "药房"), "文三路9号", "西湖区")),
        ("星光药房，医疗，文三路9号，西湖区", ("星光药房", ("医疗",), "文三路9号", "西湖区")),
        ("Kappeli, cafe, Eteläesplanadi 1, Kluuvi", ("Kappeli", ("cafe",), "Eteläesplanadi 1", "Kluuvi")),
        ("星光药房,医疗,[],西湖区", ("星光药房", ("医疗",), "", "西湖区")),
        ("星光药房,文三路9号", ("星光药房", (), "文三路9号", "")),
        ("星光药房", ("星光药房", (), "", "")),
    ],
)
def test_an_address_is_name_categories_street_and_district(
    text: str, address: tuple[str, tuple[str, ...], str, str]
) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "surroundings"),
    [
        ("大金(建塘店),家电,建塘路口西50米,江干区", ("大金(建塘店)", "大金", "建塘路口西50", "建塘路口西")),
        ("Blue Cat, cafe, Main Street 12 B, Old Town", ("Blue Cat", "", "Main Street 12", "Main Street")),
        ("Kiosk, shop, ７号, East", ("Kiosk", "", "７", "")),
        ("，", ("", "", "", "")),
    ],
)
def test_surroundings_are_name_brand_compound_and_crossing(text: str, surroundings: tuple[str, str, str, str]) -> None:
    assert parse_surroundings(text) == surroundings
