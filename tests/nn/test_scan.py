"""Linear recurrences at once: against a loop, central differences, and the cells unrolled step by step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import nn, tree

LINEAR = ("mingru", "minlstm", "lru")


def by_loop(a, b, start):
    h, states = start, []
    for t in range(len(b)):
        h = a[t] * h + b[t]
        states.append(h)
    return np.stack(states)


def drawn(rng, shape, complex_numbers):
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if complex_numbers else x


def parts(x):
    """Complex numbers as the pair that the scan takes."""
    return (x.real.copy(), x.imag.copy()) if np.iscomplexobj(x) else x


@settings(max_examples=40, deadline=None)
@given(
    T=st.integers(1, 9),
    inner=st.sampled_from([(), (1,), (3,), (2, 3)]),
    constant=st.booleans(),
    started=st.booleans(),
    complex_numbers=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_a_scan_equals_the_loop(T, inner, constant, started, complex_numbers, seed):
    rng = np.random.default_rng(seed)
    a = drawn(rng, inner if constant else (T, *inner), complex_numbers)
    b, start = drawn(rng, (T, *inner), complex_numbers), drawn(rng, inner, complex_numbers)
    # One scalar coefficient would be a number, not an array.
    a = np.asarray(a)
    found = nn.linear_scan(parts(a), parts(b), parts(start) if started else None)
    if complex_numbers:
        found = found[0] + 1j * found[1]
    expected = by_loop(np.broadcast_to(a, b.shape), b, start if started else np.zeros_like(start))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("T", [1, 2, 5])
@pytest.mark.parametrize("constant", [False, True])
def test_gradients_of_a_scan_to_second_order(T, constant):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2,) if constant else (T, 2, 2))
    b, start = rng.standard_normal((T, 2, 2)), rng.standard_normal((2, 2))
    tg.gradcheck(nn.linear_scan, [a, b, start], order=2)


@pytest.mark.parametrize("T", [1, 4])
@pytest.mark.parametrize("constant", [False, True])
def test_gradients_of_a_complex_scan_to_second_order(T, constant):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2, 2) if constant else (2, T, 1, 2))
    b, start = rng.standard_normal((2, T, 1, 2)), rng.standard_normal((2, 1, 2))

    def run(a, b, start):
        return tg.stack(nn.linear_scan((a[0], a[1]), (b[0], b[1]), (start[0], start[1])))

    tg.gradcheck(run, [a, b, start], order=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_scan_keeps_its_dtype(dtype):
    x = tg.tensor(np.ones((3, 2), dtype), requires_grad=True)
    for h in (nn.linear_scan(x, x), nn.linear_scan((x, x), (x, x), (x[0], x[0]))[1]):
        assert h.dtype == dtype
        assert tg.grad(h.sum(), [x])[0].dtype == dtype


def test_a_long_scan_is_one_node():
    b = tg.tensor(np.ones((20_000, 1)), requires_grad=True)
    h = nn.linear_scan(np.array([0.5]), b)
    assert h.op.name == "linear_scan"
    assert h.operands[1] is b
    np.testing.assert_allclose(tg.grad(h[-1].sum(), [b])[0][-3:, 0], [0.25, 0.5, 1.0])


def test_a_scan_refuses_what_does_not_fit():
    with pytest.raises(tg.ShapeError, match=r"linear_scan: needs at least one timestep .* shape \(0, 3\)"):
        nn.linear_scan(np.ones(3), np.ones((0, 3)))
    with pytest.raises(
        tg.ShapeError, match=r"a of shape \(2, 4, 3\) does not broadcast to b of shape \(4, 3\)"
    ):
        nn.linear_scan(np.ones((2, 4, 3)), np.ones((4, 3)))
    with pytest.raises(tg.ShapeError, match=r"linear_scan: .*\(4, 3\).*\(3, 3\)"):
        nn.linear_scan(np.ones((4, 3)), np.ones((3, 3)))


# --- cells -----------------------------------------------------------------------------------------------


def both_ways(cell, xs, state, lengths, seed=3):
    """Outputs, states, and all gradients of a loss over both: unrolled, and in parallel."""
    results = []
    for unrolled in (True, False):
        if unrolled:
            roll = nn.unroll(cell, xs, state, lengths)
            outputs, end = roll.outputs, roll.state
        else:
            outputs, end = cell.parallel(xs, state, lengths)
        rng = np.random.default_rng(seed)
        loss = (outputs * rng.standard_normal(outputs.shape)).sum()
        for leaf in tree.leaves(end):
            loss = loss + (leaf * rng.standard_normal(leaf.shape)).sum()
        leaves = [xs, *tree.leaves(state), *cell.parameters()]
        values = [x.numpy() for x in (outputs, *tree.leaves(end))]
        results.append((values, tg.grad(loss, leaves)))
    return results


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(LINEAR),
    T=st.integers(1, 17),
    B=st.integers(1, 3),
    D=st.integers(1, 3),
    H=st.integers(1, 4),
    masked=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_the_parallel_form_equals_the_unrolled_cell(kind, T, B, D, H, masked, seed):
    rng = np.random.default_rng(seed)
    cell = nn.make_cell(kind, D, H, seed=rng)
    xs = tg.tensor(rng.standard_normal((T, B, D)), requires_grad=True)
    lengths = rng.integers(1, T + 1, B) if masked else None
    state = tree.map(
        lambda zeros: tg.tensor(rng.standard_normal(zeros.shape), requires_grad=True),
        cell.initial_state(xs[0]),
    )
    (values, grads), (values_at_once, grads_at_once) = both_ways(cell, xs, state, lengths)
    for a, b in zip(values, values_at_once, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    for a, b in zip(grads, grads_at_once, strict=True):
        assert tg.check.norm_error(a, b) < 1e-10 or np.abs(a - b).max() < 1e-12


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_parallel_form_is_stable_over_a_thousand_timesteps(kind, dtype):
    rng = np.random.default_rng(0)
    cell = nn.make_cell(kind, 2, 3, seed=0, dtype=dtype)
    # Gates nearly open and nearly closed; products of the coefficients underflow.
    xs = tg.tensor((10 * rng.standard_normal((1100, 2, 2))).astype(dtype), requires_grad=True)
    (values, grads), (values_at_once, grads_at_once) = both_ways(cell, xs, None, [1100, 700])
    bound = 1e-4 if dtype == np.float32 else 1e-12
    for a, b in zip([*values, *grads], [*values_at_once, *grads_at_once], strict=True):
        assert b.dtype == dtype
        assert tg.check.norm_error(a, b) < bound


@pytest.mark.parametrize("kind", LINEAR)
def test_the_parallel_form_reads_no_padding(kind):
    cell = nn.make_cell(kind, 2, 3, seed=0)
    clean = np.random.default_rng(0).standard_normal((4, 2, 2))
    spoilt = clean.copy()
    spoilt[2:, 0] = np.nan
    results = []
    for xs in (clean, spoilt):
        outputs, end = cell.parallel(xs, lengths=[2, 4])
        loss = outputs.sum() + sum(leaf.sum() for leaf in tree.leaves(end))
        results.append([outputs.numpy(), *tg.grad(loss, cell.parameters())])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", LINEAR)
def test_the_parallel_form_refuses_what_the_unrolled_cell_refuses(kind):
    cell = nn.make_cell(kind, 3, 4)
    name = type(cell).__name__
    with pytest.raises(tg.ShapeError, match=f"{name}: a sequence needs at least one timestep"):
        cell.parallel(np.ones((0, 2, 3)))
    with pytest.raises(tg.ShapeError, match=rf"{name}: expected an input \(B, 3\).*\(2, 5\)"):
        cell.parallel(np.ones((6, 2, 5)))
    with pytest.raises(tg.ShapeError, match=f"{name}: the state is"):
        cell.parallel(np.ones((6, 2, 3)), {"h": np.ones((2, 4))})
    with pytest.raises(tg.ShapeError, match=r"lengths must lie in 1\.\.6"):
        cell.parallel(np.ones((6, 2, 3)), lengths=[7, 1])
    with pytest.raises(tg.DtypeError, match="weights are float64, but the input is float32"):
        cell.parallel(np.ones((6, 2, 3), np.float32))
