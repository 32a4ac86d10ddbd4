"""Vectors and POI columns on disk, and the ways to search them: exact, approximate (faiss), Milvus."""
