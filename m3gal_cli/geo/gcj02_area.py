"""The area of GCJ-02 and BD-09: a coarse outline of the mainland, Hong Kong and Macau. Coordinates are (lng, lat).

Corners are WGS-84 degrees on a grid of a quarter of a degree, drawn along the borders of Natural Earth (1:10m, public
domain). The outline excludes strips of China up to 9 km wide. It includes up to 40 km behind land borders, and more of
the sea. Towns on both sides of a border river (Heihe and Blagoveshchensk, Dandong and Sinuiju), Kinmen and Matsu are
inside. The islands of the South China Sea beyond Hainan are outside.

Sources are the documents of the vendors. AMap (``isAMapDataAvailable``) and Huawei use GCJ-02 for the mainland, Hong
Kong and Macau, and Huawei WGS-84 elsewhere. Baidu uses BD-09 in Taiwan, too. The datum below it there is not
documented, so Taiwan is outside and not converted. Users report that Google shifts the mainland only: do not convert
its Hong Kong and Macau.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import shapely

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


def in_gcj02_area(lng: ArrayLike, lat: ArrayLike) -> NDArray[np.bool_]:
    """Return whether WGS-84 points in degrees lie in the area; lng and lat broadcast, NaN is outside."""
    import shapely  # slow to import; most data are in WGS-84

    return np.asarray(shapely.contains_xy(_outline(), np.asarray(lng, np.float64), np.asarray(lat, np.float64)))


@lru_cache(maxsize=1)
def _outline() -> shapely.Polygon:
    import shapely

    outline = shapely.Polygon(OUTLINE)
    shapely.prepare(outline)
    return outline
