"""Match what people type to the place they mean (M3GAL: momentum multi-modal geographical alignment)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Matcher", "__version__"]

if TYPE_CHECKING:
    from m3gal_cli.api import Matcher


def __getattr__(name: str) -> Any:
    """``Matcher``, when it is asked for: the command line starts without it."""
    if name == "Matcher":
        from m3gal_cli.api import Matcher

        return Matcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
