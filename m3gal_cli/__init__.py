"""Match free-typed place queries to POIs (M3GAL: momentum multi-modal geographical alignment)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Matcher", "__version__"]

if TYPE_CHECKING:
    from m3gal_cli.api import Matcher


def __getattr__(name: str) -> Any:
    """Import ``Matcher`` on first use, so that the command line starts without it."""
    if name == "Matcher":
        from m3gal_cli.api import Matcher

        return Matcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
