"""Match what people type to the place they mean (M3GAL: momentum multi-modal geographical alignment)."""

__version__ = "0.1.0"
