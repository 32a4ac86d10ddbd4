"""Int8 quantisation of ONNX graphs against arithmetic in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from m3gal_cli.encoders.onnx_int8 import quantise, quantise_columns, quantise_rows

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed: pip install 'm3gal[onnx]'")
onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed: pip install 'm3gal[onnx]'")


def quantised_session(source: str, body: str, **constants: np.ndarray) -> Any:
    """Quantise a graph from the input ``source`` to the output y, in ONNX's text format, and open it."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({source}) => (float[N, M] y) {{{body}}}'
    )
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    made = quantise(model)
    assert {t.data_type for t in made.graph.initializer if len(t.dims) == 2 and t.dims[1] > 1} == {
        onnx.TensorProto.INT8
    }
    return onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])


def test_an_int8_product_is_within_half_a_step_of_the_float_product() -> None:
    draw = np.random.default_rng(0)
    table, weight = draw.normal(size=(2000, 24)).astype(np.float32), draw.normal(size=(24, 10)).astype(np.float32)
    table[7] = 0
    body = "x = Gather (table, ids) y = MatMul (x, weight)"
    session = quantised_session("int64[N] ids", body, table=table, weight=weight)
    ids = np.array([3, 7, 1999, 3, 5], np.int64)
    result = session.run(None, {"ids": ids})[0]
    x = table[ids]
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    # Half a step of the table and half of the activations, times the weights; half a step of the weights, times both.
    bound = step @ np.abs(weight).sum(axis=0, keepdims=True)
    bound += (np.abs(x) + step).sum(axis=1, keepdims=True) * quantise_columns(weight)[1] / 2
    assert (np.abs(result - x @ weight) <= bound + 1e-5).all()
    assert (result[1] == 0).all()
    assert (result[0] == result[3]).all()
    for i in range(len(ids)):
        assert (session.run(None, {"ids": ids[i : i + 1]})[0][0] == result[i]).all()


def test_rows_of_a_table_are_quantised_by_their_largest_value() -> None:
    values, scale = quantise_rows(np.array([[127, -1, 2], [0, 0, 0], [-0.5, 0.25, 0]], np.float32))
    assert values.tolist() == [[127, -1, 2], [0, 0, 0], [-127, 64, 0]]
    np.testing.assert_allclose(scale[[0, 2]], [[1], [0.5 / 127]], rtol=1e-6)


def test_columns_of_weights_are_quantised_so_that_16_bits_never_overflow() -> None:
    weight = np.array([[64, 100, 0, -3], [63, -127, 0, -3], [8, 2, 0, 1]], np.float32)
    values, scale = quantise_columns(weight)
    assert values.tolist() == [[64, 100, 0, -64], [63, -127, 0, -64], [8, 2, 0, 21]]
    np.testing.assert_allclose(scale[[0, 1, 3]], [1, 1, 6 / 127], rtol=1e-6)
    drawn = np.random.default_rng(0).standard_t(3, (385, 400)).astype(np.float32)
    values, scale = quantise_columns(drawn)
    assert (np.abs(values * scale - drawn) <= scale * 0.5001).all()
    even = np.pad(values.astype(int), ((0, 1), (0, 0)))
    pairs = [np.maximum(sign * even, 0) for sign in (1, -1)]
    most = np.max([(part[::2] + part[1::2]).max(axis=0) for part in pairs], axis=0)
    assert 255 * most.max() <= 32767
    assert most.min() >= 126, "the range is used"


def test_the_largest_adjacent_weights_do_not_overflow_16_bits() -> None:
    """On a CPU that saturates sums at 16 bits, half of the result would be lost."""
    weight = np.full((64, 16), 1, np.float32)
    weight[:, ::2] = -1
    session = quantised_session("float[N, K] x", "y = MatMul (x, weight)", weight=weight)
    x = np.array([[1.0] * 64, [-1.0] * 64, [0.5, 1.0] * 32], np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ weight, atol=64 * 0.5 / 63 + 0.2)
