"""The map page as a file: no network access, no execution of names from the data, atomic writing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from m3gal_cli.inspect.city import City
from m3gal_cli.inspect.page import write_page
from m3gal_cli.inspect.page.rendering import safe_json

HOSTILE = ["</script><script>alert(1)</script>", "<!-- <script>", "]]>", "a\u2028b\u2029c"]
HOSTILE += ["&lt;\"'`", "{{data}}{{style}}"]


def city(names: list[str], ids: str = "n{}") -> City:
    places = pd.DataFrame({"poi_id": [ids.format(i) for i in range(len(names))], "name": names})
    places = places.assign(category="shop=tea", kind="shop", lng=120 + places.index / 1000, lat=30.0, street="莫干山路")
    texts = pd.concat([places.assign(kind=f"kind{v}", text=places["name"] + f" {v}") for v in range(2)])
    return City(places, texts[["poi_id", "kind", "text"]], True)


class Page(HTMLParser):
    """Every element of a page with its attributes, the text of scripts and styles, and the data."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inner: dict[str, list[str]] = {"script": [], "style": []}
        self._open: str | None = None
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag if tag in self.inner else None

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inner[self._open].append(data)

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.inner["script"][0])  # type: ignore[no-any-return]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    write_page(city(HOSTILE), tmp_path / "map.html", "<b>Город</b> & 城市")
    return tmp_path / "map.html"


def test_the_page_refers_to_no_network_address(page: Path) -> None:
    parsed = Page(page)
    attributes = {(tag, name): value for tag, attrs in parsed.elements for name, value in attrs.items()}
    loading = {key: value for key, value in attributes.items() if key[1] in ("src", "href", "srcset", "action", "data")}
    assert loading == {("link", "href"): "data:,"}
    code = parsed.inner["script"][1] + parsed.inner["style"][0]
    assert re.findall(r"https?:|//[a-z]+\.|@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(", code) == []


def test_the_policy_allows_only_the_script_and_style_of_the_page(page: Path) -> None:
    parsed = Page(page)
    scripts = [attrs for tag, attrs in parsed.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}], "no name opens another one"
    policy = next(a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    for kind, text in (("script", parsed.inner["script"][1]), ("style", parsed.inner["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not any(name.startswith("on") or name == "style" for _, attrs in parsed.elements for name in attrs)
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\("
    assert re.findall(markup, parsed.inner["script"][1]) == []


def test_names_facts_and_views_are_stored_unchanged(page: Path) -> None:
    data = Page(page).data
    assert [place[1] for place in data["places"]] == HOSTILE
    first = data["places"][0]
    assert first[3:5] == [120.0, 30.0], "lng before lat"
    assert [data["viewKinds"][i] for i in first[7][0::2]] == ["kind0", "kind1"]
    assert first[7][1::2] == [f"{HOSTILE[0]} 0", f"{HOSTILE[0]} 1"]
    assert [data["factNames"][i] for i in first[6][0::2]] == ["street"]
    assert "&lt;b&gt;Город&lt;/b&gt; &amp; 城市" in page.read_text("utf-8")


def test_json_in_a_script_cannot_end_the_element() -> None:
    texts = [*HOSTILE, "lone surrogate: \ud800"]
    encoded = safe_json(texts)
    assert json.loads(encoded) == texts
    assert not set(encoded) & set("<>&\u2028\u2029")
    encoded.encode("utf-8")  # fails on a lone surrogate


def test_a_failed_write_keeps_the_old_page(page: Path) -> None:
    before = page.read_bytes()
    broken = city(["a"])
    broken.places["lng"] = float("nan")  # not valid in JSON
    with pytest.raises(ValueError, match="JSON compliant"):
        write_page(broken, page, "t")
    assert page.read_bytes() == before
    assert list(page.parent.iterdir()) == [page]
