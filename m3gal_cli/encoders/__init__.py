"""Encode many texts and locations: encoder protocols, PyTorch, ONNX Runtime, embedding cache, model loading."""
