"""What the typed-query noise must keep to, whatever the text: random views in all bundled locales."""

from __future__ import annotations

import random

import pytest

from m3gal_cli.osm import noise
from m3gal_cli.osm.locales import BUNDLED, Locale, load_locale
from m3gal_cli.osm.views import Piece, View

WORDS = {
    "zh": [
        *"东西南北门路街号幢停车场公司银行小学",
        "(南门)",
        "停车场",
        "号楼",
        "有限公司",
        "3",
        "12",
        "A",
        "（东区）",
        "·",
    ],
    "en": ["Street", "St", "Main", "Café", "(East)", "Ltd", "&", "12", "7-9", "B", "O'Neil", "Zürich", ".", "-", "x"],
}


def random_view(locale: Locale, rng: random.Random) -> View:
    """Three pieces of one to six words each, the first or the last one optional at times."""
    words = WORDS["zh" if locale.join == "" else "en"]
    pieces = []
    for field in ("street", "name", "district"):
        text = (locale.join or "").join(rng.choice(words) for _ in range(rng.randint(1, 6)))
        pieces.append(Piece(field, text, text, field != "name" and rng.random() < 0.5))
    return View.of("test", pieces, locale.join, swap=rng.random() < 0.5)


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("sure", [True, False])
def test_noise_never_empties_and_none_changes_nothing(name: str, sure: bool) -> None:
    locale, rng = load_locale(name), random.Random(f"{name}{sure}")
    changed = 0
    for n in range(400):
        view = random_view(locale, rng)
        assert noise.typed(view, locale, random.Random(n), strength=0.0, sure=sure) == view.text
        text = noise.typed(view, locale, random.Random(n), strength=1.0, sure=sure)
        assert text == view.text or len(text) > 1
        assert text == " ".join(text.split())
        changed += text != view.text
    assert changed > 200


@pytest.mark.parametrize("name", BUNDLED)
def test_a_place_that_shares_its_name_keeps_every_number(name: str) -> None:
    """Where no part may go, all digits stay in their order, but those that are written as numerals."""
    locale, rng = load_locale(name), random.Random(name)
    numerals = {c: str(n) for n, c in enumerate(locale.numerals, 1)}
    for n in range(400):
        view = random_view(locale, rng)._replace(swap=False)
        text = noise.typed(view, locale, random.Random(n), strength=1.0, sure=False)
        assert _digits(text, numerals) == _digits(view.text, {}), (view.text, text)


def _digits(text: str, numerals: dict[str, str]) -> str:
    return "".join(c if c.isdigit() and c.isascii() else numerals.get(c, "") for c in text)


@pytest.mark.parametrize("name", BUNDLED)
def test_every_variant_can_be_written_for_every_other_of_its_group(name: str) -> None:
    locale = load_locale(name)
    for group in locale.variants:
        for word in group:
            base = (
                f"甲3{word.removeprefix('#')}" if word.startswith("#") else f"甲{word}" if locale.join == "" else word
            )
            made = {noise.vary(base, locale, random.Random(s)) for s in range(300)}
            for other in set(group) - {word}:
                expected = base[: len(base) - len(word.removeprefix("#"))] + other.removeprefix("#")
                assert expected in made, (base, other)
