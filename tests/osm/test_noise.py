"""Typing noise: every kind of noise by itself, and rules that hold for random views in all bundled locales."""

from __future__ import annotations

import random

import pytest

from m3gal_cli.osm import noise
from m3gal_cli.osm.locales import BUNDLED, Locale, load_locale
from m3gal_cli.osm.uniqueness import POI_ROW, UniquenessIndex
from m3gal_cli.osm.views import View, ViewPart
from m3gal_cli.text.normalise import reading_key

ZH, EN = load_locale("zh"), load_locale("en")


def view(*parts: tuple[str, str, bool], join: str = "", swap: bool = False) -> View:
    return View.of("test", [ViewPart(slot, text, text, optional) for slot, text, optional in parts], join, swap=swap)


def noisy_texts(view: View, locale: Locale, strength: float = 1.0, **options: bool) -> list[str]:
    return [noise.add_noise(view, locale, random.Random(seed), strength=strength, **options) for seed in range(60)]


def test_only_optional_parts_are_dropped_and_only_with_a_unique_name() -> None:
    compound = view(("street", "文三路", True), ("name", "康乐新村", False))
    unique = noisy_texts(compound, ZH)
    assert any("文三路" not in text for text in unique)
    assert all("村" in text or "小区" in text for text in unique if len(text) >= 7)
    assert all(len(text) >= 6 for text in noisy_texts(compound, ZH, unique_name=False))  # 7 letters, one can go


def test_parts_swap_only_if_the_template_allows_it() -> None:
    parts = [("name", "Alpha", False), ("street", "Beta", False)]
    fixed, free = ({t.lower() for t in noisy_texts(view(*parts, join=" ", swap=s), EN, 0.6)} for s in (False, True))
    assert {"beta alpha", "alpha beta"} <= free
    assert "beta alpha" not in fixed


@pytest.mark.parametrize(
    ("locale", "text", "others"),
    [
        (ZH, "紫荆5号楼", {"紫荆5幢", "紫荆5栋", "紫荆5座"}),
        (ZH, "紫荆公寓5幢", {"紫荆公寓楼5幢", "紫荆公寓5号楼", "紫荆公寓5栋", "紫荆公寓5座"}),
        (ZH, "西溪银座", {"西溪银座"}),  # no number before 座: not a building
        (ZH, "地下停车场", {"地下停车库", "地下停车点", "地下停车处"}),
        (ZH, "康乐(南门)", {"康乐南门", "康乐南大门"}),
        (EN, "Main Street", {"Main St"}),
        (EN, "Stockmann", {"Stockmann"}),  # "St" is not a whole word
        (EN, "Bahnhofstrasse 5", {"Bahnhofstr. 5", "Bahnhofstraße 5"}),
        (EN, "Aleksanterinkatu", {"Aleksanterink."}),
    ],
)
def test_spelling_variants(locale: Locale, text: str, others: set[str]) -> None:
    assert {noise.swap_variant(text, locale, random.Random(s)) for s in range(40)} == others


def test_punctuation_brackets_accents_numerals() -> None:
    assert noise.drop_brackets("中国银行(文三路支行)") == "中国银行文三路支行"
    assert noise.drop_punctuation("Name, Street 12-14", " ").split() == ["Name", "Street", "12-14"]
    assert noise.drop_accents("Käpylä Straße 北京") == "Kapyla Straße 北京"
    assert noise.replace_digits("3号楼12单元", ZH.numerals) == "三号楼12单元"


def test_a_typo_changes_one_letter_and_no_digit() -> None:
    for seed in range(100):
        text = noise.typo("Mannerheimintie 12 B 345", random.Random(seed))
        assert [c for c in text if c.isdigit()] == list("12345")
        assert abs(len(text) - len("Mannerheimintie 12 B 345")) <= 1


def test_a_typo_stays_within_one_part() -> None:
    two = view(("street", "文三文三文三", False), ("name", "乐新乐新乐新", False))
    for seed in range(300):
        text = noise.add_noise(two, ZH, random.Random(seed), strength=1.0, unique_name=False)
        cut = len(text.rstrip("乐新"))
        assert set(text[:cut]) <= set("文三"), text
        assert set(text[cut:]) <= set("乐新"), text


def test_affixes_are_dropped() -> None:
    for text, shorter in (
        ("杭州新塘驾驶培训有限公司", "杭州新塘驾驶培训"),
        ("杭州市西湖区政府", "西湖区政府"),
        ("超级市场", "超级市场"),
    ):
        assert noise.drop_affix(text, ZH, random.Random(0)) == shorter


def test_long_names_lose_letters_but_no_digit_and_no_end() -> None:
    name = "杭州市3区实验小学12号"
    made = {noise.shorten(name, random.Random(s)) for s in range(200)}
    assert len(made) > 50
    for text in made:
        assert (text[0], text[-2:]) == ("杭", "2号")
        assert [c for c in text if c.isdigit()] == ["3", "1", "2"]
        letters = iter(name)
        assert all(c in letters for c in text)  # the order of the letters stays
        assert len(name) - len(name) // 3 <= len(text) < len(name)
    ascii_name = "Hua Hai Electronic Company"
    assert {noise.shorten(ascii_name, random.Random(s)) for s in range(50)} == {ascii_name}
    mixed = {noise.shorten("INNO未来城创业大厦A座", random.Random(s)) for s in range(200)}
    assert len(mixed) > 5
    assert all(text.startswith("INNO") and text.endswith("A座") for text in mixed)


# ---- random views in all bundled locales ----

WORDS = {
    "zh": [*"东西南北门路街号幢停车场公司银行小学3A·", "(南门)", "停车场", "号楼", "有限公司", "12", "（东区）"],
    "en": ["Street", "St", "Main", "Café", "(East)", "Ltd", "&", "12", "7-9", "B", "O'Neil", "Zürich", ".", "-", "x"],
}


def random_view(locale: Locale, rng: random.Random, swap: float = 0.5) -> View:
    """Return a view of three parts of one to six words each, the first and the last often optional."""
    words = WORDS["zh" if locale.join == "" else "en"]
    parts = []
    for slot in ("street", "name", "district"):
        text = (locale.join or "").join(rng.choice(words) for _ in range(rng.randint(1, 6)))
        parts.append(ViewPart(slot, text, text, slot != "name" and rng.random() < 0.5))
    return View.of("test", parts, locale.join, swap=rng.random() < swap)


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("unique_name", [True, False])
def test_noise_leaves_a_text_and_strength_0_changes_nothing(name: str, unique_name: bool) -> None:
    locale, rng = load_locale(name), random.Random(f"{name}{unique_name}")
    changed = 0
    for n in range(400):
        view = random_view(locale, rng)
        calm, text = (
            noise.add_noise(view, locale, random.Random(n), strength=s, unique_name=unique_name) for s in (0, 1)
        )
        assert calm == view.text
        assert text == view.text or len(text) > 1
        assert text == " ".join(text.split())
        changed += text != view.text
    assert changed > 200


@pytest.mark.parametrize("name", BUNDLED)
def test_a_place_that_shares_its_name_keeps_every_digit_or_its_numeral(name: str) -> None:
    locale, rng = load_locale(name), random.Random(name)
    numerals = {c: str(n) for n, c in enumerate(locale.numerals, 1)}

    def digits(text: str, numerals: dict[str, str]) -> str:
        return "".join(c if c.isdigit() and c.isascii() else numerals.get(c, "") for c in text)

    for n in range(400):
        view = random_view(locale, rng, swap=0.0)
        text = noise.add_noise(view, locale, random.Random(n), strength=1.0, unique_name=False)
        assert digits(text, numerals) == digits(view.text, {}), (view.text, text)


def test_a_text_is_claimed_once_and_never_from_a_place() -> None:
    uniqueness = UniquenessIndex()
    for texts in (["Alpha", "Shared"], ["Beta", "Shared"]):
        views = [View.of("x", [ViewPart("name", text, reading_key(text))], "") for text in texts]
        uniqueness.add(enumerate(views, POI_ROW + 1))
    uniqueness.close()
    claims = noise.CollisionFreeNoise(uniqueness, [True, True], {"": EN}, strength=0.5, seed=1)
    assert [claims.claim(n, "alpha") for n in (0, 1, 7)] == [True, False, False]
    assert [claims.claim(n, "shared") for n in (0, 1, 7)] == [False, False, False]
    assert [claims.claim(n, "gamma") for n in (7, 0, 8, 7)] == [True, False, False, True]
