"""The path from a query to an answer: candidates, reranking, answers."""
