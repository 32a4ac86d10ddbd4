"""The type of a feature, and the decorator that makes a function a feature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features.context import FeatureContext

Compute = Callable[[FeatureContext], Floats]  # query and n candidates -> (n,)


@dataclass(frozen=True)
class Feature:
    """One number per candidate of a query. Equal candidates must get equal numbers."""

    name: str  # in the file of the reranker
    scale: float  # factor that gives features a similar spread
    cheap: bool  # computed for all candidates, to choose the shortlist; others for the shortlist only
    compute: Compute  # returns the unscaled feature


def feature(scale: float, *, cheap: bool = False) -> Callable[[Compute], Feature]:
    """Replace the decorated function by a feature of the same name. See ``Feature`` for the arguments."""
    return lambda compute: Feature(compute.__name__, scale, cheap, compute)
