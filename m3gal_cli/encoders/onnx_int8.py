"""An ONNX graph's matrix products in int8: weights by output column, activations by row, as they come.

A row's scale is its own largest number, so that a text's vector does not depend on the texts beside it, and an outlier
in one token does not blunt the others (onnxruntime's own dynamic quantisation has one scale a batch).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# CPUs without VNNI add the products of two neighbouring rows of weights in 16 bits, which hold 32767: with activations
# of up to 255, two neighbours of a sign may be 128 together (127 before rounding). So nothing is cut, on any CPU.
LARGEST = 127
ZERO = 128  # activations become 1 .. 255 around it
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
        self._constant("m3gal.step", np.float32(1 / LARGEST))
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
            values, scale = by_column(self.array.to_array(self.weights[weight]))
            self._constant(f"{weight}.int8", values)
            self._constant(f"{weight}.scale", scale)
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
            values, scale = by_row(self.array.to_array(self.weights[table]))
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


def by_row(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers, and each row's scale, which gives the row back. Shape: (N, D) -> (N, D), (N, 1)."""
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), TINY) / np.float32(LARGEST)
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)


def by_column(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers, rows 0 and 1, 2 and 3, … of a sign being 128 together at most, and each column's scale.

    Shape: (K, N) -> (K, N), (N,).
    """
    even = np.pad(weight, ((0, len(weight) % 2), (0, 0)))
    parts = [np.maximum(sign * even, 0) for sign in (1, -1)]
    pair = np.max([(part[::2] + part[1::2]).max(axis=0) for part in parts], axis=0)
    scale = np.maximum(pair, TINY) / np.float32(LARGEST)
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)
