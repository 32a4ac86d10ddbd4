"""Write the ONNX graph of the packaged text encoder: a BERT encoder with int8 products, without its weights.

The graph reads texts of equal length, so that it needs no mask, and the vector of a text does not depend on its batch.
Weights are external initializers, which ``PackagedEncoder`` fills when it opens the graph.

Shape:
    embeddings (B, L, D) float32: sums of word, position and type embeddings -> vectors (B, D) float32 of length 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from m3gal_cli.encoders.onnx_int8 import LARGEST, TINY, ZERO

OPSET, IR_VERSION = 17, 9
CONTRIB = "com.microsoft"  # operators of onnxruntime


class _Graph:
    def __init__(self, config: Any) -> None:
        self.config = config
        self.nodes: list[Any] = []
        constants = {
            "step": np.float32(1 / LARGEST),
            "tiny": np.float32(TINY),
            "zero": np.uint8(ZERO),
            "weight_zero": np.int8(0),
        }
        self.initializers = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]

    def add(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        """Append a node and return its first output."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def weight(self, name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> str:
        """Declare a weight that is filled when the graph is opened."""
        tensor = TensorProto(name=name, dims=shape, data_type=kind, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="weights")
        self.initializers.append(tensor)
        return name

    def product(self, rows: str, name: str, shape: list[int]) -> str:
        """Append the int8 product of rows and the weight ``name`` of this shape (K, N), without a bias."""
        if not any(f"{rows}.int8" in node.output for node in self.nodes):
            self.add("Abs", [rows], [f"{rows}.abs"])
            self.add("ReduceMax", [f"{rows}.abs"], [f"{rows}.max"], axes=[-1], keepdims=1)
            self.add("Max", [f"{rows}.max", "tiny"], [f"{rows}.largest"])
            self.add("Div", [rows, f"{rows}.largest"], [f"{rows}.units"])
            self.add("QuantizeLinear", [f"{rows}.units", "step", "zero"], [f"{rows}.int8"])
        weight = self.weight(f"{name}.int8", shape, TensorProto.INT8)
        scale = self.weight(f"{name}.scale", shape[1:])
        inputs = [f"{rows}.int8", weight, "step", scale, "zero", "weight_zero"]
        units = self.add("MatMulIntegerToFloat", inputs, [f"{name}.units"], domain=CONTRIB)
        return self.add("Mul", [units, f"{rows}.largest"], [f"{name}.product"])

    def normalised_sum(self, one: str, other: str, layer: str) -> str:
        """Append LayerNorm(one + other + bias of the dense layer ``layer``)."""
        dim = [self.config.hidden_size]
        norm = layer.replace("dense", "LayerNorm")
        parts = [self.weight(f"{norm}.weight", dim), self.weight(f"{norm}.bias", dim)]
        inputs = [one, other, *parts, self.weight(f"{layer}.bias", dim)]
        epsilon = self.config.layer_norm_eps
        return self.add("SkipLayerNormalization", inputs, [f"{norm}.out"], domain=CONTRIB, epsilon=epsilon)

    def layer(self, x: str, name: str) -> str:
        """Append a transformer layer."""
        config, dim, wide = self.config, self.config.hidden_size, self.config.intermediate_size
        attention, parts = f"{name}.attention.self", ("query", "key", "value")
        product = self.product(x, f"{attention}.qkv", [dim, 3 * dim])
        biased = self.add("Add", [product, self.weight(f"{attention}.qkv.bias", [3 * dim])], [f"{attention}.biased"])
        inputs = [f"{attention}.{part}" for part in parts]
        self.add("Split", [biased], inputs, axis=-1)
        heads = config.num_attention_heads
        mixed = self.add("MultiHeadAttention", inputs, [f"{attention}.out"], domain=CONTRIB, num_heads=heads)
        dense = f"{name}.attention.output.dense"
        x = self.normalised_sum(self.product(mixed, dense, [dim, dim]), x, dense)
        dense = f"{name}.intermediate.dense"
        inner = [self.product(x, dense, [dim, wide]), self.weight(f"{dense}.bias", [wide])]
        inner_out = self.add("BiasGelu", inner, [f"{dense}.out"], domain=CONTRIB)
        dense = f"{name}.output.dense"
        return self.normalised_sum(self.product(inner_out, dense, [wide, dim]), x, dense)

    def model(self) -> Any:
        """Return the graph with mean pooling and L2 normalisation."""
        dim = self.config.hidden_size
        norm = "embeddings.LayerNorm"
        inputs = ["embeddings", self.weight(f"{norm}.weight", [dim]), self.weight(f"{norm}.bias", [dim])]
        epsilon = self.config.layer_norm_eps
        x = self.add("LayerNormalization", inputs, [f"{norm}.out"], axis=-1, epsilon=epsilon)
        for number in range(self.config.num_hidden_layers):
            x = self.layer(x, f"encoder.layer.{number}")
        mean = self.add("ReduceMean", [x], ["mean"], axes=[1], keepdims=0)
        length = self.add("ReduceL2", [mean], ["length"], axes=[1], keepdims=1)
        self.add("Div", [mean, length], ["vectors"])
        shape, out = ["batch", "length", dim], ["batch", dim]
        graph = helper.make_graph(
            self.nodes,
            "text_encoder",
            [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, out)],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def write_graph(config: Any, path: Path) -> None:
    """Write the graph of a BERT encoder with this transformers config."""
    save(_Graph(config).model(), path)
