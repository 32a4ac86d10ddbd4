"""Compose the address text of POIs from their parts: ``name,kind,…,street and number,district``.

The text of a POI depends on its own row only. Texts with Chinese characters are joined without spaces, others with
", ". ``text.addresses.parse_address`` splits the text into the same parts.

If a rule changes, increase ``text.addresses.TEXT_VERSION``, by which indexes notice it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from m3gal_cli.data.schemas.sources import as_text
from m3gal_cli.text.normalise import has_han, normalise, reading_key

MAX_OTHER_NAMES, MAX_OTHER_CHARS = 2, 40  # more would displace street and district from the 64 tokens
_HAN = r"[\x{2E80}-\x{9FFF}\x{F900}-\x{FAFF}]"
_ENGLISH_STREET = (
    r"(?i)\b(street|st|road|rd|avenue|ave|lane|ln|drive|dr|boulevard|blvd|court|ct|terrace|highway|hwy|parkway|pkwy"
    r"|crescent|way|square|close)\.?$"
)
_POSTCODE = re.compile(  # at an end: 00100 Helsinki, 1011 AB Amsterdam, London SW1A 1AA, IL 62704-1234, ON M5V 2T6
    r"^(?:[A-Z]{1,2}-)?\d{4,6}(?:-\d{3,4}| ?[A-Z]{2}\b)?(?:\s+|$)|^\d{3} \d{2}\s+|(?:^|\s)\d{5,6}(?:-\d{4})?$"
    r"|(?:^|\s)(?:[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d)$"
)
_STATE = re.compile(r"(?:[A-Z]{2})?")
_DIGIT = re.compile(r"\d")
_NO_KIND = pa.array(["yes", "no", "other", "unknown"])
_NAME_KEYS_WITHOUT_NAMES = ("name", "old_name", "_place_name", "_place_old_name")
_SEPARATORS = str.maketrans({";": "|", ",": "|", "，": "|", "；": "|", "、": "|"})


def join_parts(
    name: pa.StringArray, category: pa.StringArray, door: pa.StringArray, district: pa.StringArray
) -> pa.StringArray:
    """Join the parts of each text; a missing part is null. Null where both name and door are missing."""
    # pyarrow 26 drops rows in which all parts are null, so these get an empty name.
    empty = pc.is_null(pc.coalesce(name, category, door, district))
    parts = (pc.if_else(empty, "", name), category, door, district)
    latin = pc.binary_join_element_wise(*parts, ", ", null_handling="skip")
    han = is_han(pc.coalesce(name, door))
    if pc.any(han).as_py():
        compact = pc.replace_substring(pc.binary_join_element_wise(*parts, ",", null_handling="skip"), ", ", ",")
        latin = pc.if_else(han, compact, latin)
    return pc.if_else(pc.or_(name.is_valid(), door.is_valid()), latin, None)


def contains(whole: str, part: str) -> bool:
    """Return whether a text contains the words of another one; case and punctuation do not count."""
    words, own = normalise(whole), normalise(part)
    return own in words if has_han(own) else f" {own} " in f" {words} "


def is_han(texts: pa.StringArray) -> pa.BooleanArray:
    """Return whether each text has a Chinese character; False for null."""
    return pc.fill_null(pc.match_substring_regex(texts, _HAN), False)


def doors(street: pa.StringArray, number: pa.StringArray, unit: pa.StringArray) -> pa.StringArray:
    """Return street, house number and unit: 文三路12号, 12 Main Street, Annankatu 16 B; null without a street.

    The number follows the street, as in the rows of ``data osm``, unless the street ends with an English word for it.
    """
    if number.null_count == len(number) and unit.null_count == len(unit):
        return street
    han = is_han(street)
    marked = pc.if_else(pc.and_(han, pc.match_substring_regex(number, r"^\d+$")), _join("", number, "号"), number)
    behind = pc.if_else(han, _join("", street, marked), _join(" ", street, number))
    english = pc.match_substring_regex(street, _ENGLISH_STREET)
    with_number = pc.if_else(english, _join(" ", number, street), behind)
    door = pc.coalesce(with_number, street)
    return pc.coalesce(pc.if_else(han, _join("", door, unit), _join(" ", door, unit)), door)


def districts(district: pa.StringArray, city: pa.StringArray, region: pa.StringArray) -> pa.StringArray:
    """Return the last part: district and city in the order of the script, the region only without both."""
    different = pc.if_else(pc.equal(district, city), None, district)
    both = pc.if_else(is_han(different), _join("", city, different), _join(" ", different, city))
    return pc.coalesce(both, district, city, region)


def split_freeform(
    street: pa.StringArray, district: pa.StringArray, city: pa.StringArray
) -> tuple[pa.StringArray, pa.StringArray]:
    """Split addresses that hold more than the street: return street and district.

    ``street`` still has its commas. Behind it may stand the city, with the postcode, and the country. The city is the
    district if no other is known. Without a postcode, the last part counts as the city.
    """
    several = pc.fill_null(pc.match_substring_regex(street, "[,，]"), False)
    if not pc.any(several).as_py():
        return street, district
    streets, others, cities = street.to_pylist(), district.to_pylist(), city.to_pylist()
    for row in pc.indices_nonzero(several).to_pylist():
        parts = [part.strip() for part in streets[row].replace("，", ",").split(",") if part.strip()]
        known = [text.casefold() for text in (others[row], cities[row]) if text]
        if not known and len(parts) > 1:
            parts, others[row] = _without_city(parts)
        repeated = [i for i, part in enumerate(parts) if i and any(text in part.casefold() for text in known)]
        if repeated:  # the street ends before the last run of parts that name the city or the district
            end = repeated[-1]
            while end - 1 in repeated:
                end -= 1
            parts = parts[:end]
        streets[row] = " ".join(parts) or None
    return pa.array(streets, pa.string()), pa.array(others, pa.string())


def _without_city(parts: list[str]) -> tuple[list[str], str | None]:
    """Return the parts of a postal address before the city, and the city."""
    for i in range(len(parts) - 1, 0, -1):
        city = _POSTCODE.sub("", parts[i]).strip()
        if city == parts[i] or re.search(_ENGLISH_STREET, parts[i]):
            continue
        if any(map(_DIGIT.search, parts[i + 1 :])):
            break  # no country
        if _STATE.fullmatch(city):  # Springfield, IL 62704
            return (parts[: i - 1], parts[i - 1]) if i > 1 else (parts[:i], city or None)
        return parts[:i], city
    return parts[:-1], parts[-1]


def without_districts(street: pa.StringArray, *districts: pa.StringArray) -> pa.StringArray:
    """Return Chinese streets without the region, city and district at their beginning: 浙江省杭州市文三路12号."""
    han = is_han(street)
    if not pc.any(han).as_py():
        return street
    streets, known = street.to_pylist(), [values.to_pylist() for values in districts]
    for row in pc.indices_nonzero(han).to_pylist():
        rest = streets[row]
        for values in known:
            rest = rest.removeprefix(values[row] or "")
        streets[row] = rest or streets[row]
    return pa.array(streets, pa.string())


def categories(values: pa.Array) -> pa.StringArray:
    """Return readable category words, coarse to fine, joined by ", ".

    ``pizza_restaurant`` and ``amenity=restaurant`` lose underscore and key. Of levels joined by ">" the last two
    below the root are kept, of those joined by ";" or ":" the last three. Of alternatives joined by "|", and of a list
    that was written as text, the first one is kept. ``osm.amenity.cafe`` is "cafe".
    """
    texts = as_text(values)
    if pc.any(pc.match_substring_regex(texts, r"^\[|^osm\.")).as_py():
        texts = pc.replace_substring_regex(texts, r"""^\[\s*(?:'([^']*)'|"([^"]*)").*\]$""", r"\1\2")
        texts = pc.replace_substring_regex(texts, r"^\[((?:[^>\]]*>)?[^,\]]*).*\]$", r"\1")
        texts = pc.replace_substring_regex(texts, r"^osm\.(?:.*\.)?", "")
    texts = pc.replace_substring_regex(texts, r"\s*[,，/]\s*|[\s_]+", " ")
    if pc.any(pc.match_substring_regex(texts, r"[|=>:;；：]")).as_py():
        texts = pc.replace_substring_regex(texts, r"\|.*$|^[^=>;]*=", "")
        texts = pc.replace_substring_regex(texts, r"^[^>]*>", "")  # the root of a taxonomy names no kind
        texts = pc.replace_substring_regex(texts, r"^.*>([^>]*>[^>]*)$", r"\1")
        texts = pc.replace_substring_regex(texts, r"\s*[:：；]\s*", ";")
        texts = pc.replace_substring_regex(texts, r"^.*;([^;]*;[^;]*;[^;]*)$", r"\1")
        texts = pc.utf8_trim(pc.replace_substring_regex(texts, r"\s*[>;]\s*", ", "), ", ")
        encoded = texts.dictionary_encode()
        levels = [", ".join(dict.fromkeys(text.split(", "))) for text in encoded.dictionary.to_pylist()]
        texts = pa.array(levels, pa.string()).take(encoded.indices)  # 餐饮服务;中餐厅;中餐厅
    texts = pc.utf8_trim_whitespace(texts)
    unknown = pc.or_(pc.is_in(pc.utf8_lower(texts), _NO_KIND), pc.equal(texts, ""))
    return pc.if_else(pc.fill_null(unknown, True), None, texts)


def with_other_names(name: pa.StringArray, others: Iterable[pa.Array], brand: pa.StringArray) -> pa.StringArray:
    """Return each name with its other names behind it: ``Ateneum Finnish National Gallery``.

    Other names are texts, lists, or structs and maps with a name per language. Names that read the same, or are part of
    the name, are left out; so is the brand. At most two, of at most 40 characters each, are added.
    """
    columns = [values for values in (*others, brand) if values.null_count < len(values)]
    if not columns:
        return name
    rows = pc.indices_nonzero(_any_valid(columns)).to_pylist()
    names = name.to_pylist()
    given = [column.take(pa.array(rows, pa.int64())).to_pylist() for column in columns]
    for row, *values in zip(rows, *given, strict=True):
        names[row] = _name_and_others(names[row], [other for value in values for other in _names_in(value)])
    return pa.array(names, pa.string())


def _name_and_others(name: str | None, candidates: list[str]) -> str | None:
    kept: list[str] = []
    key = reading_key(name or "")
    for other in candidates:
        text = " ".join(other.translate(_SEPARATORS).replace("|", " ").split())
        own = reading_key(text)
        if not own or len(text) > MAX_OTHER_CHARS or own in key:
            continue
        if not name:
            name, key = text, own
            continue
        kept.append(text)
        key += " " + own
        if len(kept) == MAX_OTHER_NAMES:
            break
    if not kept or name is None:
        return name
    return " ".join([name, *kept])


def _names_in(value: Any) -> Iterator[str]:
    """Yield the names in a value; those in a text are separated by ";", "|" or a comma."""
    if isinstance(value, str):
        yield from (name for name in value.translate(_SEPARATORS).split("|") if name.strip())
    elif isinstance(value, dict):
        yield from _names_in(list(value.items()))
    elif isinstance(value, list):
        pairs = [item if isinstance(item, tuple) else ("", item) for item in value]
        for key, item in sorted(pairs, key=lambda pair: pair[0] not in ("en", "name:en")):
            if item is not None and key not in _NAME_KEYS_WITHOUT_NAMES:
                yield from _names_in(item)


def _any_valid(columns: list[pa.Array]) -> pa.BooleanArray:
    valid = columns[0].is_valid()
    for column in columns[1:]:
        valid = pc.or_(valid, column.is_valid())
    return valid


def _join(separator: str, *parts: pa.StringArray | str) -> pa.StringArray:
    """Join texts; null if one is null."""
    return pc.binary_join_element_wise(*parts, separator, null_handling="emit_null")
