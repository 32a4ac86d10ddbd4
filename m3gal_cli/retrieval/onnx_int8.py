"""An ONNX graph's matrix products in int8: weights by output column, activations by row, as they come.

A row's scale is its own largest number, so that a text's vector does not depend on the texts beside it, and an outlier
in one token does not blunt the others (onnxruntime's own dynamic quantisation has one scale a batch).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# CPUs without VNNI add two products in 16 bits: 2 * 255 * 64 is the most that fits, so weights have 7 bits.
WEIGHT_LIMIT = 64
ACTIVATION_LIMIT, ZERO = 127, 128  # rows become 1 .. 255 around ZERO
TABLE_ROWS = 1024  # tables (embeddings) of fewer rows stay as they are
TINY = 1e-9


def quantise(model: Any) -> Any:
    """The same onnx model (changed in place) with its weights and embedding tables in int8."""
    graph = _Int8(model.graph)
    graph.rewrite()
    if not any(entry.domain == "com.microsoft" for entry in model.opset_import):
        from onnx import helper

        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


class _Int8:
    def __init__(self, graph: Any) -> None:
        from onnx import helper, numpy_helper

        self.graph, self.node, self.array = graph, helper.make_node, numpy_helper
        self.weights = {t.name: t for t in graph.initializer if len(t.dims) == 2}
        self.nodes: list[Any] = []
        self.rows: set[str] = set()  # tensors whose rows are quantised already: Q, K and V share one
        self.replaced: set[str] = set()

    def rewrite(self) -> None:
        """Replace the products and look-ups, then what nobody uses any more."""
        self._constant("m3gal.step", np.float32(1 / ACTIVATION_LIMIT))
        self._constant("m3gal.tiny", np.float32(TINY))
        self._constant("m3gal.zero", np.uint8(ZERO))
        for node in self.graph.node:
            if node.op_type == "MatMul" and node.input[1] in self.weights:
                self._product(node)
            elif node.op_type == "Gather" and self._is_table(node.input[0]):
                self._look_up(node)
            else:
                self.nodes.append(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [t for t in self.graph.initializer if t.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _product(self, node: Any) -> None:
        rows, weight = node.input
        self._quantise_rows(rows)
        if weight not in self.replaced:
            values, scale = by_largest(self.array.to_array(self.weights[weight]), 0, WEIGHT_LIMIT)
            self._constant(f"{weight}.int8", values)
            self._constant(f"{weight}.scale", scale[0])
            self._constant(f"{weight}.zero", np.int8(0))
            self.replaced.add(weight)
        scales = ["m3gal.step", f"{weight}.scale", "m3gal.zero", f"{weight}.zero"]
        out, part = node.output[0], f"{node.output[0]}.unit"
        given = [f"{rows}.int8", f"{weight}.int8", *scales]
        self.nodes.append(self.node("MatMulIntegerToFloat", given, [part], domain="com.microsoft", name=node.name))
        self.nodes.append(self.node("Mul", [part, f"{rows}.largest"], [out]))

    def _quantise_rows(self, name: str) -> None:
        """Nodes that make NAME.int8 and NAME.largest of a tensor."""
        if name in self.rows:
            return
        self.rows.add(name)
        self.nodes += [
            self.node("Abs", [name], [f"{name}.abs"]),
            self.node("ReduceMax", [f"{name}.abs"], [f"{name}.max"], axes=[-1], keepdims=1),
            self.node("Max", [f"{name}.max", "m3gal.tiny"], [f"{name}.largest"]),
            self.node("Div", [name, f"{name}.largest"], [f"{name}.units"]),
            self.node("QuantizeLinear", [f"{name}.units", "m3gal.step", "m3gal.zero"], [f"{name}.int8"]),
        ]

    def _is_table(self, name: str) -> bool:
        return name in self.weights and self.weights[name].dims[0] >= TABLE_ROWS

    def _look_up(self, node: Any) -> None:
        (table, index), out = node.input, node.output[0]
        if table not in self.replaced:
            values, scale = by_largest(self.array.to_array(self.weights[table]), 1, ACTIVATION_LIMIT)
            self._constant(f"{table}.int8", values)
            self._constant(f"{table}.scale", scale)
            self.replaced.add(table)
        self.nodes += [
            self.node("Gather", [f"{table}.int8", index], [f"{out}.found"]),
            self.node("Gather", [f"{table}.scale", index], [f"{out}.step"]),
            self.node("Cast", [f"{out}.found"], [f"{out}.whole"], to=1),
            self.node("Mul", [f"{out}.whole", f"{out}.step"], [out]),
        ]

    def _constant(self, name: str, value: Any) -> None:
        self.graph.initializer.append(self.array.from_array(np.asarray(value), name))


def by_largest(weight: NDArray[np.float32], axis: int, limit: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers of at most ``limit`` and the scale that gives the weight back, by the largest along ``axis``."""
    scale = np.maximum(np.abs(weight).max(axis=axis, keepdims=True), TINY) / np.float32(limit)
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)
