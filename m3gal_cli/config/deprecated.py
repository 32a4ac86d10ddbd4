"""Settings of earlier versions: old names and values are translated, with one warning for all of them."""

from __future__ import annotations

import warnings
from typing import Any

RENAMED = {
    "data.max_words": "data.max_chars",
    "eval.bm25": "eval.sparse",
    "eval.hybrid": "eval.rerank",
    "momentum.m": "momentum.text",
    "momentum.m_location": "momentum.location",
    "momentum.m_location_increment": "momentum.location_increment",
    "optim.members": "optim.soup_size",
}
RENAMED_VALUES = {("optim.loss", "apart"): "separate"}
# Settings that have no effect any more. The evaluations never depended on eval.batch_size.
REMOVED = frozenset({"data.mine", "eval.reranker"})
IGNORED_IN_FILES = frozenset({"eval.batch_size"})


class DeprecatedSettingWarning(FutureWarning):
    """A setting has the name or the value of an earlier version."""


class Translator:
    """Translates settings to their current names and collects what the user should change."""

    def __init__(self) -> None:
        self._renamed: dict[str, str] = {}
        self._removed: dict[str, None] = {}

    def name(self, dotted: str) -> str | None:
        """Return the current name of a setting; None if it was removed."""
        if dotted in RENAMED:
            self._renamed[dotted] = RENAMED[dotted]
        return None if dotted in REMOVED else RENAMED.get(dotted, dotted)

    def value(self, dotted: str, value: Any) -> Any:
        """Return the current value of a setting."""
        new = RENAMED_VALUES.get((dotted, value)) if isinstance(value, str) else None
        if new is None:
            return value
        self._renamed[f"{dotted}: {value}"] = new
        return new

    def removed(self, dotted: str, value: Any) -> None:
        """Note the use of a removed setting; null is what older versions wrote for an unset one."""
        if value is not None:
            self._removed[dotted] = None

    def warn(self) -> None:
        """Issue one warning that names all old settings, if there are any."""
        parts = []
        if self._renamed:
            parts.append("renamed settings: " + ", ".join(f"{old} is now {new}" for old, new in self._renamed.items()))
        parts += [f"{name} is no longer supported" for name in self._removed]
        if parts:
            warnings.warn("; ".join(parts), DeprecatedSettingWarning, stacklevel=2)
