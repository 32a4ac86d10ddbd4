"""Queries in, places out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from m3gal_cli.data.coordinates import haversine_m
from m3gal_cli.data.queries import Query
from m3gal_cli.retrieval.database import PoiDatabase
from m3gal_cli.retrieval.embed import Embedder, Progress


class Matcher:
    """Answers queries from a POI table. Rows equal in text and coordinates are one place: the first keeps its poi_id.

    Args:
        pois: poi_id, address, lng, lat (degrees, WGS-84).
        embedder: the model.
    """

    def __init__(self, pois: pd.DataFrame, embedder: Embedder, progress: Progress | None = None) -> None:
        distinct = pois.drop_duplicates(["address", "lng", "lat"]).reset_index(drop=True)
        self.database = PoiDatabase(distinct, embedder, progress)
        self.embedder = embedder

    def match(self, queries: Sequence[Query], top_k: int) -> list[dict[str, Any]]:
        """The best ``top_k`` places of each query, in the order of the queries.

        Returns:
            {"id", "query", "matches": [{"rank", "poi_id", "address", "lng", "lat", "score", "distance_m"?}]} a query;
            score is q.k + q.g' in [-2, 2]; distance_m, in metres, where the query says where it was typed.
        """
        vectors = self.embedder.queries([q.text for q in queries])
        rows, scores = self.database.search(vectors, top_k)
        pois = self.database.pois
        columns = (pois["poi_id"].tolist(), pois["address"].tolist(), pois["lng"].tolist(), pois["lat"].tolist())
        answers = []
        for i, query in enumerate(queries):
            matches = []
            for rank, (row, score) in enumerate(zip(rows[i], scores[i], strict=True), 1):
                poi_id, address, lng, lat = (column[row] for column in columns)
                match = {
                    "rank": rank,
                    "poi_id": poi_id,
                    "address": address,
                    "lng": lng,
                    "lat": lat,
                    "score": float(score),
                }
                if query.lng is not None and query.lat is not None:
                    match["distance_m"] = round(float(haversine_m(query.lng, query.lat, lng, lat)), 1)
                matches.append(match)
            answers.append({"id": query.id, "query": query.text, "matches": matches})
        return answers
