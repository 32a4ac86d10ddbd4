"""Sources of a role: a column, a path into nested columns, or a template; and their values in a table.

``names.primary`` is a field of a struct or a key of a map, ``centroid.0`` an element of a list. Of a list without a
number, the first element counts. ``{street} {no}, {city}`` is a template. A column named like the path comes first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

_FIELD = re.compile(r"\{([^{}]*)\}")
_COMMAS = r"[ \t]*(?:,[ \t]*){2,}"
_EDGES = " \t,，"
_SPACES = r"\s*[,，]\s*|\s+"
_POINT_BYTES = 21  # of WKB
_GEOMETRY = re.compile(
    r"\s*(?:(?:SRID=\d+;)?\s*(?:MULTI)?(?:POINT|POLYGON|LINESTRING)[ ZM]*\("
    # WKB in hexadecimal digits, for MySQL behind the SRID: byte order, type, flags. A hash has other digits.
    r"|(?:0x)?(?:[0-9A-F]{8})?(?:01[0-9A-F]{2}0[037B]00[0-9A-F]0|00[0-9A-F]0000[037B][0-9A-F]{2})[0-9A-F]{32,}\s*$"
    r"|\{.*\"coordinates\")",
    re.IGNORECASE | re.DOTALL,
)
_MISSING = pa.array(["nan", "NaN", "null", "NULL", "None", "N/A", "n/a", "\\N", "[]", "-"])


def is_template(source: str) -> bool:
    """Return whether a source has columns in braces."""
    return _FIELD.search(source) is not None


def paths_of(source: str) -> list[str]:
    """Return the columns and paths that a source reads."""
    return [path.strip() for path in _FIELD.findall(source)] if is_template(source) else [source]


def has_path(schema: pa.Schema, path: str) -> bool:
    """Return whether a table of this schema has a column or a nested field of this path; maps have every key."""
    column, keys = _split(schema.names, path)
    return column is not None and _has_keys(schema.field(column).type, keys)


def values_of(table: pa.Table, path: str) -> pa.Array:
    """Return the values of a column or path; nulls if the table lacks it."""
    column, keys = _split(table.column_names, path)
    if column is None:
        return pa.nulls(len(table))
    values = _flat(table[column])
    for key in keys:
        values = _step(values, key)
    return values


def texts_of(table: pa.Table, source: str, *, keep_commas: bool = False) -> pa.StringArray:
    """Return the values of a source as one-line texts; null for a missing or empty one.

    Commas become spaces, because they separate the parts of an address text, unless ``keep_commas``. The literal text
    of a template keeps them; parts that are empty leave no comma behind.
    """
    if not is_template(source):
        return _clean(as_text(values_of(table, source)), keep_commas)
    pieces, given = [], []
    for number, piece in enumerate(_FIELD.split(source)):
        if number % 2:
            value = _clean(as_text(values_of(table, piece.strip())), keep_commas)
            given.append(value.is_valid())
            pieces.append(pc.fill_null(value, ""))
        else:
            pieces.append(pa.scalar(piece))
    text = pc.binary_join_element_wise(*pieces, "")
    text = pc.replace_substring_regex(pc.replace_substring_regex(text, r"\s+", " "), _COMMAS, ", ")
    text = pc.utf8_trim(text, _EDGES)
    any_given = given[0]
    for other in given[1:]:
        any_given = pc.or_(any_given, other)
    return pc.if_else(pc.and_(any_given, pc.not_equal(text, "")), text, None)


def complete_texts_of(table: pa.Table, template: str) -> pa.StringArray:
    """Return the texts of a template; null where a column of it has no value."""
    pieces = [
        as_text(values_of(table, piece.strip())) if number % 2 else pa.scalar(piece)
        for number, piece in enumerate(_FIELD.split(template))
    ]
    return pc.binary_join_element_wise(*pieces, "", null_handling="emit_null")


def as_text(values: pa.Array) -> pa.StringArray:
    """Return trimmed texts: of a list its first element, of a whole number its digits; null for other values."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    while is_list(values.type):
        values = _element(values, 0)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_float16(values.type):
        values = values.cast(pa.float32())
    kind = values.type
    if pa.types.is_floating(kind):
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 1e15))
        digits = pc.if_else(whole, values, None).cast(pa.int64()).cast(pa.string())
        decimals = pc.if_else(pc.is_nan(values), None, values).cast(pa.string())
        return pc.coalesce(digits, decimals)
    if pa.types.is_nested(kind) or is_binary(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return pa.nulls(len(values), pa.string())
    texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return pc.if_else(pc.equal(texts, ""), None, texts)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of the text types."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_binary(kind: pa.DataType) -> bool:
    """Return whether a type is one of the types of bytes."""
    views = pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or views


def is_whole(values: pa.Array) -> bool:
    """Return whether values are floats without decimals, such as ids that pandas read beside an empty one."""
    if not pa.types.is_floating(values.type):
        return False
    known = values.drop_null()
    return len(known) > 0 and bool(pc.all(pc.equal(pc.floor(known), known)).as_py())


def holds_geometries(values: pa.Array) -> bool:
    """Return whether values are geometries: WKB, WKT, GeoJSON, or structs of coordinates."""
    kind = values.type
    if pa.types.is_struct(kind):
        return is_point(kind) or kind.get_field_index("coordinates") >= 0
    if not is_text(kind) and not is_binary(kind):
        return False
    first = values.slice(0, 1000).drop_null().to_pylist()
    if is_text(kind):
        return any(map(_GEOMETRY.match, first))
    return bool(first) and len(first[0]) >= _POINT_BYTES and first[0][0] < 2


def is_point(kind: pa.DataType) -> bool:
    """Return whether a type is a struct of the fields x and y, as in GeoArrow."""
    return pa.types.is_struct(kind) and min(map(kind.get_field_index, ("x", "y"))) >= 0


def is_list(kind: pa.DataType) -> bool:
    """Return whether a type is one of the list types."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _clean(texts: pa.StringArray, keep_commas: bool) -> pa.StringArray:
    texts = pc.if_else(pc.is_in(texts, _MISSING), None, texts)
    if keep_commas:
        return pc.replace_substring_regex(texts, r"\s+", " ")
    texts = pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, _SPACES, " "))
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _split(names: Sequence[str], path: str) -> tuple[str | None, list[str]]:
    """Return the column with the longest name that the path begins with, and the keys behind it."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        column = ".".join(parts[:count])
        if column in names:
            return column, parts[count:]
    return None, []


def _has_keys(kind: pa.DataType, keys: Sequence[str]) -> bool:
    for key in keys:
        if is_list(kind):
            kind = kind.value_type
            if key.isdigit():
                continue
        if pa.types.is_map(kind):
            return True
        if not pa.types.is_struct(kind) or kind.get_field_index(key) < 0:
            return False
        kind = kind.field(key).type
    return True


def _step(values: pa.Array, key: str) -> pa.Array:
    """Return the values one key deeper; nulls where there is no such key."""
    if is_list(values.type):
        if key.isdigit():
            return _element(values, int(key))
        return _step(_element(values, 0), key)
    if pa.types.is_struct(values.type) and values.type.get_field_index(key) >= 0:
        return pc.struct_field(values, key)
    if pa.types.is_map(values.type):
        return pc.map_lookup(values, pa.scalar(key, values.type.key_type), "first")
    return pa.nulls(len(values))


def _element(values: pa.Array, number: int) -> pa.Array:
    """Return an element of each list, from 0; null for a shorter list."""
    if pa.types.is_fixed_size_list(values.type):
        values = values.cast(pa.list_(values.type.value_type))
    longer = pc.fill_null(pc.greater(pc.list_value_length(values), number), False)
    starts = values.offsets[:-1].cast(pa.int64())
    return values.values.take(pc.if_else(longer, pc.add(starts, number), None))


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
