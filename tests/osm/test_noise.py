"""Typing noise by kind and on random views of all bundled locales; uniqueness of texts against brute force."""

from __future__ import annotations

import random

import pytest

from m3gal_cli.osm import noise
from m3gal_cli.osm.locales import BUNDLED, Locale, load_locale
from m3gal_cli.osm.uniqueness import AMBIGUOUS, POI_ROW, UniquenessIndex, group_by_key
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
        (ZH, "紫荆公寓5幢", {"紫荆公寓楼5幢", "紫荆公寓5号楼", "紫荆公寓5栋", "紫荆公寓5座"}),
        (ZH, "西溪银座", {"西溪银座"}),  # no number before 座: not a building
        (ZH, "地下停车场", {"地下停车库", "地下停车点", "地下停车处"}),
        (ZH, "康乐(南门)", {"康乐南门", "康乐南大门"}),
        (EN, "Main Street", {"Main St"}),
        (EN, "Stockmann", {"Stockmann"}),  # "St" is not a whole word
        (EN, "Aleksanterinkatu", {"Aleksanterink."}),
    ],
)
def test_spelling_variants(locale: Locale, text: str, others: set[str]) -> None:
    assert {noise.swap_variant(text, locale, random.Random(s)) for s in range(40)} == others


def test_punctuation_brackets_numerals() -> None:
    assert noise.drop_brackets("中国银行(文三路支行)") == "中国银行文三路支行"
    assert noise.drop_punctuation("Name, Street 12-14", " ").split() == ["Name", "Street", "12-14"]
    assert noise.replace_digits("3号楼12单元", ZH.numerals) == "三号楼12单元"


def test_a_typo_changes_one_letter_of_one_part_and_no_digit() -> None:
    two = view(("street", "文三文三文三", False), ("name", "乐新乐新乐新", False))
    for seed in range(300):
        typo = noise.typo("Mannerheimintie 12 B 345", random.Random(seed))
        assert [c for c in typo if c.isdigit()] == list("12345")
        assert 23 <= len(typo) <= 25
        text = noise.add_noise(two, ZH, random.Random(seed), strength=1.0, unique_name=False)
        cut = len(text.rstrip("乐新"))
        assert set(text[:cut]) <= set("文三"), text
        assert set(text[cut:]) <= set("乐新"), text


def test_affixes_are_dropped() -> None:
    found = [
        noise.drop_affix(text, ZH, random.Random(0)) for text in ("新塘培训有限公司", "杭州市西湖区政府", "超级市场")
    ]
    assert found == ["新塘培训", "西湖区政府", "超级市场"]


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
def test_noise_leaves_a_text_and_the_digits_of_a_name_that_is_not_unique(name: str, unique_name: bool) -> None:
    locale, rng = load_locale(name), random.Random(f"{name}{unique_name}")
    numerals = {c: str(n) for n, c in enumerate(locale.numerals, 1)}
    changed = 0
    for n in range(400):
        view = random_view(locale, rng, swap=0.5 * unique_name)
        calm, text = (
            noise.add_noise(view, locale, random.Random(n), strength=s, unique_name=unique_name) for s in (0, 1)
        )
        assert calm == view.text
        assert text == view.text or len(text) > 1
        assert text == " ".join(text.split())
        kept = "".join(numerals.get(c, c if c in "0123456789" else "") for c in text)
        assert unique_name or kept == "".join(c for c in view.text if c in "0123456789"), (view.text, text)
        changed += text != view.text
    assert changed > 200


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


@pytest.mark.parametrize("seed", range(5))
def test_uniqueness_is_that_of_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    words = ["", "a", "bb", "cc", "DD", "ee ff", "b-b", "gg", "hh", "ii", "jj", "kk"]
    keys = [f"k{n}" for n in range(40)]
    places = []
    for _ in range(rng.randint(1, 12)):
        numbers = sorted(rng.sample(range(8), rng.randint(0, 8)))
        parts = [ViewPart("name", rng.choice(words) + rng.choice(words), rng.choice(keys)) for _ in numbers]
        places.append([(n, View.of(f"t{n}", [part], "")) for n, part in zip(numbers, parts, strict=True)])
    index = UniquenessIndex()
    for row in places:
        index.add(row)
    index.close()
    texts = [[reading_key(v.text) for _, v in row] for row in places]
    for p, row in enumerate(places):
        elsewhere = {t for q, other in enumerate(texts) if q != p for t in other}
        contents = {v.content for q, other in enumerate(places) if q != p for _, v in other}
        kept, seen = [], set()
        for number, one in row:
            key = reading_key(one.text)
            unique = len(key) > 1 and key not in elsewhere and one.content not in contents
            if (unique or number == POI_ROW) and key not in seen:
                kept.append(number)
                seen.add(key)
        assert index.unique_views(p) == kept
        assert index.counts()[p] == len(kept)
    rows = {reading_key(v.text) for row in places for n, v in row if n == POI_ROW}
    for key in {t for row in texts for t in row} | {"nothing"}:
        owners = [p for p, row in enumerate(texts) if key in row]
        assert index.owner(key) == (None if not owners else owners[0] if len(owners) == 1 else AMBIGUOUS)
        assert index.is_poi_row(key) == (key in rows)


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_those_of_a_naive_union(seed: int) -> None:
    rng = random.Random(seed)
    keys = [(rng.randrange(30), rng.choice(["", *"abcdefghijklmnop"])) for _ in range(40)]
    group = list(range(30))
    for _ in range(30):
        for a, text in keys:
            for b, other in keys:
                if text and text == other:
                    low = min(group[a], group[b])
                    group = [low if g in (group[a], group[b]) else g for g in group]
    assert group_by_key(keys, 30).tolist() == group
    assert group_by_key([], 3).tolist() == [0, 1, 2]
