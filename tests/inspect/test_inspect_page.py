"""The map page as a file: what it asks of the network, what its data can do to it, and that it is written whole."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.inspect.city import City
from m3gal_cli.inspect.page import write_page
from m3gal_cli.inspect.page.write import safe_json

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "]]>",
    "a\u2028b\u2029c",
    "&lt;\"'`",
    "{{data}}{{style}}",
]


def city(names: list[str], views: int = 2, ids: str = "n{}") -> City:
    places = pd.DataFrame({"poi_id": [ids.format(i) for i in range(len(names))], "name": names})
    places = places.assign(
        category="shop=tea", kind="shop", lng=120.0 + places.index / 1000, lat=30.0, street="莫干山路"
    )
    texts = pd.concat([places.assign(kind=f"kind{v}", text=places["name"] + f" {v}") for v in range(views)])
    return City(places, texts[["poi_id", "kind", "text"]], views > 0)


class Elements(HTMLParser):
    """Every element with its attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inner: dict[str, list[str]] = {"script": [], "style": []}
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open = tag if tag in self.inner else None

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inner[self._open].append(data)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    write_page(city(HOSTILE), tmp_path / "map.html", "<b>Город</b> & 城市")
    return tmp_path / "map.html"


def test_it_names_no_address_to_fetch_from(page: Path) -> None:
    elements = Elements(page.read_text("utf-8"))
    given = {(tag, name): value for tag, attrs in elements.found for name, value in attrs.items()}
    fetching = {key: value for key, value in given.items() if key[1] in ("src", "href", "srcset", "action", "data")}
    assert fetching == {("link", "href"): "data:,"}
    code = elements.inner["script"][1] + elements.inner["style"][0]
    assert re.findall(r"https?:|//[a-z]+\.|@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(", code) == []


def test_its_script_is_the_only_one_and_the_policy_knows_it_by_its_hash(page: Path) -> None:
    elements = Elements(page.read_text("utf-8"))
    scripts = [attrs for tag, attrs in elements.found if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}], "no name has opened one"
    policy = next(
        attrs["content"] for _, attrs in elements.found if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    for kind, text in (("script", elements.inner["script"][1]), ("style", elements.inner["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not any(name.startswith("on") or name == "style" for _, attrs in elements.found for name in attrs)
    assert (
        re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", elements.inner["script"][1]
        )
        == []
    )


def test_names_come_back_as_they_were(page: Path) -> None:
    elements = Elements(page.read_text("utf-8"))
    data = json.loads(elements.inner["script"][0])
    assert [place[1] for place in data["places"]] == HOSTILE
    assert data["places"][0][3:5] == [120.0, 30.0], "lng before lat"
    assert [data["viewKinds"][i] for i in data["places"][0][7][0::2]] == ["kind0", "kind1"]
    assert data["places"][0][7][1::2] == [f"{HOSTILE[0]} 0", f"{HOSTILE[0]} 1"]
    assert [data["factNames"][i] for i in data["places"][0][6][0::2]] == ["street"]
    assert "&lt;b&gt;Город&lt;/b&gt; &amp; 城市" in page.read_text("utf-8")


@pytest.mark.parametrize("text", [*HOSTILE, "half a pair: \ud800"])
def test_json_in_a_script_holds_nothing_that_ends_it(text: str) -> None:
    made = safe_json({text: [text]})
    assert json.loads(made) == {text: [text]}
    assert not set(made) & set("<>&\u2028\u2029")
    made.encode("utf-8")  # no half of a surrogate pair


def test_a_sample_is_seeded_and_in_the_order_of_the_table(tmp_path: Path) -> None:
    def ids(seed: int, most: int) -> list[str]:
        write_page(city([str(i) for i in range(100)]), tmp_path / "m.html", "t", seed, most)
        return [
            p[0] for p in json.loads(Elements((tmp_path / "m.html").read_text("utf-8")).inner["script"][0])["places"]
        ]

    assert ids(1, 100) == [f"n{i}" for i in range(100)]
    some = ids(1, 30)
    assert len(set(some)) == 30
    assert some == sorted(some, key=lambda i: int(i[1:]))
    assert some == ids(1, 30) != ids(2, 30)


def test_an_old_page_stays_when_a_new_one_cannot_be_made(page: Path) -> None:
    before = page.read_bytes()
    broken = city(["a"])
    broken.places["lng"] = float("nan")  # no JSON knows it
    with pytest.raises(ValueError, match="JSON compliant"):
        write_page(broken, page, "t")
    with pytest.raises(InputError, match="shows nothing"):
        write_page(city(["a"]), page, "t", most=0)
    assert page.read_bytes() == before
    assert list(page.parent.iterdir()) == [page]


@pytest.mark.parametrize(
    ("ids", "credit"), [("w{}", "© OpenStreetMap contributors"), ("B0FF{}", "Source of the data: unknown")]
)
def test_who_made_the_data_is_told_from_the_ids(tmp_path: Path, ids: str, credit: str) -> None:
    write_page(city(["a", "b"], ids=ids), tmp_path / "m.html", "t")
    data = json.loads(Elements((tmp_path / "m.html").read_text("utf-8")).inner["script"][0])
    assert data["attribution"] == credit


def test_the_same_city_makes_the_same_page(page: Path, tmp_path: Path) -> None:
    write_page(city(HOSTILE), tmp_path / "again.html", "<b>Город</b> & 城市")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()
