"""Layers without memory, and initialisers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.nn import init


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 2, 3), (0, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_x_weight_transposed_plus_bias(shape, bias):
    layer = nn.Linear(3, 5, bias=bias, seed=0)
    x = np.random.default_rng(1).standard_normal(shape)
    expected = x @ layer.weight.numpy().T + (layer.bias.numpy() if bias else 0)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-13, atol=1e-15)
    if x.size:
        tg.gradcheck(
            lambda x, w, b: tg.linear(x, w, b) if bias else tg.linear(x, w),
            [x, layer.weight, layer.bias if bias else np.zeros(5)],
            order=2,
        )


def test_linear_keeps_float32():
    layer = nn.Linear(3, 2, dtype=np.float32, seed=0)
    out = layer(np.ones((4, 3), np.float32))
    out.sum().backward()
    assert out.dtype == layer.weight.grad.dtype == layer.bias.grad.dtype == np.float32


def test_linear_of_a_wrong_width_names_the_shapes():
    with pytest.raises(tg.ShapeError, match=r"linear.*\(2, 4\).*\(5, 3\)"):
        nn.Linear(3, 5, seed=0)(np.ones((2, 4)))


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_sizes_must_be_positive_integers(size):
    with pytest.raises(tg.ShapeError, match="positive integer"):
        nn.Linear(size, 3)


def test_embedding_adds_up_repeated_ids():
    layer = nn.Embedding(4, 2, seed=0)
    ids = np.array([[1, 1, 3], [1, 0, 3]])
    out = layer(ids)
    np.testing.assert_array_equal(out.numpy(), layer.weight.numpy()[ids])
    g = np.random.default_rng(0).standard_normal(out.shape)
    out.backward(g)
    expected = np.zeros((4, 2))
    np.add.at(expected, ids, g)
    np.testing.assert_allclose(layer.weight.grad, expected, rtol=1e-14)


def test_embedding_of_bytes():
    layer = nn.Embedding(256, 2, seed=0)
    layer(np.array([0, 255, 255], np.uint8)).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad[[0, 1, 255]], [[1, 1], [0, 0], [2, 2]])


def test_embedding_refuses_bad_ids():
    layer = nn.Embedding(4, 2, seed=0)
    with pytest.raises(tg.ShapeError, match=r"id 4 is out of range for 4 rows"):
        layer(np.array([0, 4]))
    with pytest.raises(tg.ShapeError, match=r"id -1"):
        layer(np.array([-1]))
    with pytest.raises(tg.DtypeError, match="integers"):
        layer(np.array([0.5]))


@given(p=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_dropout_keeps_or_scales(p, seed):
    out = nn.Dropout(p, seed=seed)(tg.tensor(np.ones(100))).numpy()
    kept = out != 0
    if p < 1:
        np.testing.assert_allclose(out[kept], 1 / (1 - p))
    else:
        assert not kept.any()


def test_dropout_rate_and_gradient():
    x = tg.tensor(np.ones(20_000), requires_grad=True)
    out = nn.Dropout(0.3, seed=0)(x)
    assert abs((out.numpy() == 0).mean() - 0.3) < 0.01
    out.sum().backward()
    np.testing.assert_array_equal(x.grad, out.numpy())


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match="probability"):
        nn.Dropout(p)


def test_layer_norm_against_its_definition():
    layer = nn.LayerNorm(6)
    x = np.random.default_rng(0).standard_normal((3, 4, 6)) * 5 + 2
    out = layer(x).numpy()
    np.testing.assert_allclose(out.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(out.std(-1), 1, rtol=1e-5)
    tg.gradcheck(lambda x, w, b: tg.layer_norm(x, w, b), [x[0], layer.weight, layer.bias], order=2)


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_orthogonal_has_orthonormal_rows_or_columns(rows, columns, seed):
    W = init.orthogonal((rows, columns), seed=seed, gain=2.0)
    gram = W @ W.T if rows <= columns else W.T @ W
    np.testing.assert_allclose(gram, 4 * np.eye(min(rows, columns)), atol=1e-12)


def test_initialisers_have_the_spread_they_promise():
    shape = (400, 300)
    assert abs(init.scaled_uniform(shape, seed=0).var() * (400 + 300) / 2 - 1) < 0.02
    assert abs(init.scaled_normal(shape, seed=0).var() * 300 - 1) < 0.02
    assert abs(init.normal(shape, 0.1, seed=0).std() / 0.1 - 1) < 0.02
    assert np.abs(init.uniform(shape, 0.2, seed=0)).max() <= 0.2


def test_initialisers_repeat_with_a_seed_and_go_on_with_a_generator():
    np.testing.assert_array_equal(init.orthogonal((3, 3), seed=1), init.orthogonal((3, 3), seed=1))
    rng = np.random.default_rng(1)
    assert not np.array_equal(init.orthogonal((3, 3), rng), init.orthogonal((3, 3), rng))
    assert init.normal((2,), 1.0, seed=0, dtype=np.float32).dtype == np.float32
    with pytest.raises(tg.ShapeError, match="matrix"):
        init.orthogonal((3,))
    with pytest.raises(tg.ShapeError, match="matrix"):
        init.scaled_normal((3,))
