"""Quantise the matrix products of an ONNX graph to int8: weights per output column, activations per row at run time.

The scale of an activation row is its largest absolute value. Therefore the vector of a text does not depend on the
other texts of the batch. An outlier in one token does not reduce the precision of the others. The dynamic quantisation
of onnxruntime has one scale per batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# CPUs without VNNI add the products of two adjacent weight rows in 16 bits, up to 32767. Activations are at most 255.
# Two adjacent weights of one sign may therefore sum to 128 (127 before rounding) without overflow.
LARGEST = 127
ZERO = 128  # zero point of activations, which become 1 .. 255
TABLE_ROWS = 1024  # embedding tables of fewer rows stay float32
TINY = 1e-9  # smallest scale, for rows of zeros


def quantise(model: Any) -> Any:
    """Quantise the weights and embedding tables of an ``onnx.ModelProto`` in place, and return it."""
    _Quantiser(model.graph).rewrite()
    if not any(entry.domain == "com.microsoft" for entry in model.opset_import):
        from onnx import helper

        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


class _Quantiser:
    def __init__(self, graph: Any) -> None:
        from onnx import helper, numpy_helper

        self.graph, self.node, self.array = graph, helper.make_node, numpy_helper
        self.weights = {t.name: t for t in graph.initializer if len(t.dims) == 2}
        self.nodes: list[Any] = []
        self.quantised: set[str] = set()  # tensors with quantised rows; several products may share one
        self.constants: dict[str, Any] = {"m3gal.step": np.float32(1 / LARGEST), "m3gal.tiny": np.float32(TINY)}
        self.constants |= {"m3gal.zero": np.uint8(ZERO), "m3gal.weight_zero": np.int8(0)}

    def rewrite(self) -> None:
        """Replace matrix products and table lookups by int8 nodes, and drop the constants that are no longer used."""
        tables = {name for name, weight in self.weights.items() if weight.dims[0] >= TABLE_ROWS}
        for node in self.graph.node:
            if node.op_type == "MatMul" and node.input[1] in self.weights:
                self._replace_product(node)
            elif node.op_type == "Gather" and node.input[0] in tables:
                self._replace_lookup(node)
            else:
                self.nodes.append(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [t for t in self.graph.initializer if t.name in used]
        kept += [self.array.from_array(np.asarray(v), name) for name, v in self.constants.items() if name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _replace_product(self, node: Any) -> None:
        rows, weight = node.input
        self._quantise_rows(rows)
        self._quantise_weight(weight, quantise_columns)
        scales = ["m3gal.step", f"{weight}.scale", "m3gal.zero", "m3gal.weight_zero"]
        out, part = node.output[0], f"{node.output[0]}.unit"
        inputs = [f"{rows}.int8", f"{weight}.int8", *scales]
        self.nodes.append(self.node("MatMulIntegerToFloat", inputs, [part], domain="com.microsoft", name=node.name))
        self.nodes.append(self.node("Mul", [part, f"{rows}.largest"], [out]))

    def _quantise_rows(self, name: str) -> None:
        """Append the nodes that compute NAME.int8 and NAME.largest of a tensor."""
        if name in self.quantised:
            return
        self.quantised.add(name)
        self.nodes += [
            self.node("Abs", [name], [f"{name}.abs"]),
            self.node("ReduceMax", [f"{name}.abs"], [f"{name}.max"], axes=[-1], keepdims=1),
            self.node("Max", [f"{name}.max", "m3gal.tiny"], [f"{name}.largest"]),
            self.node("Div", [name, f"{name}.largest"], [f"{name}.units"]),
            self.node("QuantizeLinear", [f"{name}.units", "m3gal.step", "m3gal.zero"], [f"{name}.int8"]),
        ]

    def _replace_lookup(self, node: Any) -> None:
        (table, index), out = node.input, node.output[0]
        self._quantise_weight(table, quantise_rows)
        self.nodes += [
            self.node("Gather", [f"{table}.int8", index], [f"{out}.values"]),
            self.node("Gather", [f"{table}.scale", index], [f"{out}.step"]),
            self.node("Cast", [f"{out}.values"], [f"{out}.float"], to=1),
            self.node("Mul", [f"{out}.float", f"{out}.step"], [out]),
        ]

    def _quantise_weight(self, name: str, quantise: Callable[[Any], tuple[Any, Any]]) -> None:
        """Add the constants NAME.int8 and NAME.scale of a weight."""
        if f"{name}.int8" not in self.constants:
            values, scale = quantise(self.array.to_array(self.weights[name]))
            self.constants |= {f"{name}.int8": values, f"{name}.scale": scale}


def quantise_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise each row to int8: values times scale give the row. Shape: (N, D) -> values (N, D), scale (N, 1)."""
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), TINY) / np.float32(LARGEST)
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)


def quantise_columns(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise each column to int8; weights of one sign in rows 0 and 1, 2 and 3, … sum to at most 128.

    Shape:
        (K, N) -> values (K, N), scale (N,).
    """
    pairs = weight[0 : len(weight) - 1 : 2] + weight[1::2]  # of two signs: not larger than the larger of both weights
    largest = [bound for part in (weight, pairs) if len(part) for bound in (part.max(axis=0), -part.min(axis=0))]
    scale = np.maximum(np.max(largest, axis=0), TINY) / np.float32(LARGEST)
    units = weight / scale
    return np.rint(units, out=units).astype(np.int8), scale.astype(np.float32)
