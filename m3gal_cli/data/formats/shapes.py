"""Find one Arrow type for all values that JSON objects have under one name."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

TEXT, BOOL, INT, FLOAT, LARGE_INT, OBJECT, LIST, AS_JSON = (1 << i for i in range(8))
MAX_FIELDS = 1000  # of a nested object; one with more is a map, and kept as JSON text
MAX_DEPTH = 6  # deeper values are kept as JSON text
_INT64 = 1 << 63
_encode = json.JSONEncoder(ensure_ascii=False).encode


class Shape:
    """The kinds of values seen so far, and the shapes of what they contain.

    The type is that of the values: a struct for objects, a list for arrays, float64 for integers and other numbers.
    Text is the type of mixed kinds, of integers beyond 64 bits, and of GeoJSON geometries, which stay JSON.
    """

    __slots__ = ("_fits", "fields", "items", "kinds")

    def __init__(self) -> None:
        self.kinds = 0
        self._fits: bool | None = None
        self.fields: dict[str, Shape] = {}
        self.items: Shape | None = None

    def add(self, value: Any, depth: int = 0) -> None:
        """Add a value as ``json`` returns it."""
        if value is None:
            return
        if isinstance(value, str):
            self.kinds |= TEXT
        elif isinstance(value, bool):
            self.kinds |= BOOL
        elif isinstance(value, int):
            self.kinds |= INT if -_INT64 <= value < _INT64 else LARGE_INT
        elif isinstance(value, float):
            self.kinds |= FLOAT
        elif depth >= MAX_DEPTH or _is_geometry(value):
            self.kinds |= AS_JSON
        elif isinstance(value, dict):
            self.kinds |= OBJECT
            self.add_fields(value, depth)
        else:
            self.kinds |= LIST
            self.items = self.items or Shape()
            for item in value:
                self.items.add(item, depth + 1)

    def add_fields(self, row: dict[str, Any], depth: int = 0) -> None:
        """Add the values of an object."""
        fields = self.fields
        if len(fields) > MAX_FIELDS and depth:
            return
        for name, item in row.items():
            shape = fields.get(name)
            if shape is None:
                shape = fields[name] = Shape()
            shape.add(item, depth + 1)

    @property
    def _is_struct(self) -> bool:
        return self.kinds == OBJECT and 0 < len(self.fields) <= MAX_FIELDS

    @property
    def arrow_type(self) -> pa.DataType:
        """The Arrow type that holds all values; text if all are null."""
        simple = {BOOL: pa.bool_(), INT: pa.int64(), FLOAT: pa.float64(), INT | FLOAT: pa.float64()}
        if self.kinds in simple:
            return simple[self.kinds]
        if self._is_struct:
            return pa.struct([(name, shape.arrow_type) for name, shape in self.fields.items()])
        if self.kinds == LIST and self.items is not None:
            return pa.list_(self.items.arrow_type)
        return pa.string()

    @property
    def fits(self) -> bool:
        """Whether pyarrow takes the values without ``convert``; fixed when first asked."""
        if self._fits is None:
            if self._is_struct:
                self._fits = all(shape.fits for shape in self.fields.values())
            elif self.kinds == LIST and self.items is not None:
                self._fits = self.items.fits
            else:
                self._fits = self.kinds in (0, TEXT, BOOL, INT, FLOAT)
        return self._fits

    def convert(self, value: Any) -> Any:
        """Return a value in the form that pyarrow converts to the type."""
        if value is None or self.fits:
            return value
        if self.kinds == INT | FLOAT:
            return float(value)
        if self._is_struct:
            return {name: self.fields[name].convert(item) for name, item in value.items()}
        if self.kinds == LIST and self.items is not None:
            return [self.items.convert(item) for item in value]
        return value if isinstance(value, str) else _encode(value)


def _is_geometry(value: Any) -> bool:
    return isinstance(value, dict) and "type" in value and ("coordinates" in value or "geometries" in value)
