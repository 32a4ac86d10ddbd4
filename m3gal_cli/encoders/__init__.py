"""Run a model over many texts and places: PyTorch, ONNX Runtime, batching, embedding cache."""
