"""Where the Chinese datums apply: a coarse outline of the mainland, Hong Kong and Macau. Coordinates are (lng, lat).

Corners are WGS-84 degrees on a grid of a quarter of a degree, chosen against the borders of Natural Earth (1:10m,
public domain): the outline leaves out strips of at most 9 km of China and takes in up to 40 km of what lies behind a
land border, more of the sea. So towns that face each other across a border (Heihe and Blagoveshchensk, Dandong and
Sinuiju), Kinmen and Matsu are all inside; the islands of the South China Sea beyond Hainan are outside.

Who uses what, by the makers' own documents: AMap serves "the mainland, Hong Kong and Macau" in GCJ-02 and tests for
just these (``isAMapDataAvailable``); Huawei's map, the same, says WGS-84 for Taiwan and abroad. Baidu says BD-09 for
the mainland, Hong Kong, Macau and Taiwan, WGS-84 abroad, but not on top of what in Taiwan; Taiwan is outside here, so
Baidu's places there stay as they are. Google's map is shifted in the mainland only, users report: do not read its Hong
Kong or Macau as GCJ-02.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

OUTLINE = (  # clockwise from Kashgar
    (73.75, 39.75), (74.5, 40.5), (76.25, 40.75), (80, 42.25), (80.25, 43.5), (79.75, 45), (82.25, 45.75), (83, 47.25),
    (85.25, 47.25), (85.75, 48.5), (87.75, 49.5), (88.5, 48.75), (91, 47.25), (91, 45.5), (94.75, 44.75), (96.75, 43),
    (101.75, 42.5), (103.75, 41.75), (109.5, 42.75), (111.25, 43.5), (111.5, 44.75), (112, 45.25), (113.75, 45),
    (118.25, 47), (119.25, 47), (118.25, 47.75), (116, 47.5), (115.5, 48), (116.75, 50), (118.25, 49.75), (120.5, 52),
    (120, 52.75), (121.75, 53.75), (126, 53.25), (127.75, 50), (130.25, 49.25), (131.5, 47.75), (134.25, 48.5),
    (135, 48), (133, 45), (131.5, 45), (131.25, 43), (130, 42.25), (127.75, 41.25), (127, 41.25), (123.75, 39.5),
    (122.75, 37.25), (121, 35), (123.25, 30.5), (119.75, 24.75), (112.25, 20), (109.75, 18), (108.5, 18.5),
    (108.5, 21.25), (106.75, 21.75), (105.75, 23), (104.25, 22.5), (102, 22.25), (101.75, 21), (100, 21.5),
    (99.25, 22), (99, 22.75), (98.25, 23.75), (97.25, 24), (98.5, 26.75), (97.75, 28), (96.75, 28.25), (95.75, 29),
    (94.25, 28.75), (91.75, 27.5), (90, 28), (89, 27.25), (88.75, 27.5), (85.5, 28), (81.75, 30), (81.25, 30),
    (78.75, 31.25), (78.25, 32.25), (78.75, 33), (78, 35.25), (76.25, 35.75), (75.75, 36.25), (74.25, 37.25),
    (74.75, 38), (73.25, 39),
)  # fmt: skip


def in_china(lng: ArrayLike, lat: ArrayLike) -> NDArray[np.bool_]:
    """Whether WGS-84 points in degrees lie in the mainland, Hong Kong or Macau, as the module says how coarsely.

    Shape:
        lng, lat: any, broadcast -> bool of that shape; False for NaN.
    """
    x, y = np.broadcast_arrays(np.asarray(lng, np.float64), np.asarray(lat, np.float64))
    inside = np.zeros(x.shape, np.bool_)
    heights, edges = _slabs()
    near = (y >= heights[0]) & (y < heights[-1])
    x, y = x[near], y[near]
    slab = np.searchsorted(heights, y, "right") - 1
    left = np.zeros(x.shape, np.bool_)  # of an odd number of edges
    for at, slope in edges:
        left ^= x < at[slab] + slope[slab] * y
    inside[near] = left
    return inside


@lru_cache(maxsize=1)
def _slabs() -> tuple[NDArray[np.float64], list[tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """The corners' latitudes in order, and the edges that cross the slab above each: lng = at + slope * lat.

    The n-th item has the n-th edge of every slab; where a slab has fewer, a line that no point is left of.
    """
    one, two = np.array(OUTLINE), np.roll(OUTLINE, -1, axis=0)
    heights = np.unique(one[:, 1])
    middles = (heights[:-1] + heights[1:]) / 2.0
    crossing = (one[:, 1] > middles[:, None]) != (two[:, 1] > middles[:, None])  # (slab, edge)
    rise = two[:, 1] - one[:, 1]
    slope = (two[:, 0] - one[:, 0]) / np.where(rise == 0.0, 1.0, rise)  # a level edge crosses no slab
    at = one[:, 0] - slope * one[:, 1]
    most = int(crossing.sum(axis=1).max())
    first = np.argsort(~crossing, axis=1, kind="stable")[:, :most]
    held = np.take_along_axis(crossing, first, axis=1)
    ats, slopes = np.where(held, at[first], -np.inf), np.where(held, slope[first], 0.0)
    return heights, [(ats[:, n], slopes[:, n]) for n in range(most)]
