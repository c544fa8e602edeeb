"""Every shipped cell against its equations written out in NumPy, one sequence and one gate at a time."""

from __future__ import annotations

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn, tree

T, B, D, H = 5, 3, 4, 3


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def relu(a):
    return a * (a > 0)


def gate(p, k, x, h):
    """W_x x + b_x + W_h h + b_h of the k-th gate."""
    rows = range(k * H, (k + 1) * H)
    return (
        p["weight_ih"][rows] @ x
        + p.get("bias_ih", np.zeros(9 * H))[rows]
        + p["weight_hh"][rows] @ h
        + p.get("bias_hh", np.zeros(9 * H))[rows]
    )


def from_input(p, k, x):
    rows = range(k * H, (k + 1) * H)
    return p["weight_ih"][rows] @ x + p["bias_ih"][rows]


def rnn(p, x, h):
    h = np.tanh(gate(p, 0, x, h))
    return h, h


def irnn(p, x, h):
    h = relu(gate(p, 0, x, h))
    return h, h


def indrnn(p, x, h):
    h = relu(p["weight_ih"] @ x + p["weight_hh"] * h + p["bias_ih"])
    return h, h


def lstm(p, x, state):
    h, c = state
    i, f, o = sigmoid(gate(p, 0, x, h)), sigmoid(gate(p, 1, x, h)), sigmoid(gate(p, 3, x, h))
    c = f * c + i * np.tanh(gate(p, 2, x, h))
    h = o * np.tanh(c)
    return h, (h, c)


def peephole(p, x, state):
    h, c = state
    i = sigmoid(gate(p, 0, x, h) + p["weight_ci"] * c)
    f = sigmoid(gate(p, 1, x, h) + p["weight_cf"] * c)
    c = f * c + i * np.tanh(gate(p, 2, x, h))
    o = sigmoid(gate(p, 3, x, h) + p["weight_co"] * c)
    h = o * np.tanh(c)
    return h, (h, c)


def normalised(z, p, name):
    mean, variance = z.mean(), ((z - z.mean()) ** 2).mean()
    return (z - mean) / np.sqrt(variance + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def lnlstm(p, x, state):
    h, c = state
    a = normalised(p["weight_hh"] @ h, p, "norm_hh") + normalised(p["weight_ih"] @ x, p, "norm_ih")
    i, f, g, o = (a + p["bias_ih"] + p["bias_hh"]).reshape(4, H)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(normalised(c, p, "norm_c"))
    return h, (h, c)


def slstm(p, x, state, forget=sigmoid):
    """Without the stabiliser; c and n of the state as they are."""
    h, c, n = state
    i, f = np.exp(gate(p, 0, x, h)), forget(gate(p, 1, x, h))
    z, o = np.tanh(gate(p, 2, x, h)), sigmoid(gate(p, 3, x, h))
    c, n = f * c + i * z, f * n + i
    h = o * c / n
    return h, (h, c, n)


def gru(p, x, h):
    r, z = sigmoid(gate(p, 0, x, h)), sigmoid(gate(p, 1, x, h))
    rows = range(2 * H, 3 * H)
    n = np.tanh(from_input(p, 2, x) + r * (p["weight_hh"][rows] @ h + p["bias_hh"][rows]))
    h = (1 - z) * n + z * h
    return h, h


def gru_before(p, x, h):
    r, z = sigmoid(gate(p, 0, x, h)), sigmoid(gate(p, 1, x, h))
    n = np.tanh(gate(p, 2, x, r * h))
    h = (1 - z) * n + z * h
    return h, h


def mgu(p, x, h):
    f = sigmoid(gate(p, 0, x, h))
    n = np.tanh(gate(p, 1, x, f * h))
    h = (1 - f) * h + f * n
    return h, h


def mingru(p, x, h):
    z = sigmoid(from_input(p, 0, x))
    h = (1 - z) * h + z * from_input(p, 1, x)
    return h, h


def minlstm(p, x, h):
    f, i = sigmoid(from_input(p, 0, x)), sigmoid(from_input(p, 1, x))
    h = f / (f + i) * h + i / (f + i) * from_input(p, 2, x)
    return h, h


def lru(p, x, state):
    h = state[0] + 1j * state[1]
    eigenvalues = np.exp(-np.exp(p["nu_log"]) + 1j * np.exp(p["theta_log"]))
    h = eigenvalues * h + np.exp(p["gamma_log"]) * ((p["B_re"] + 1j * p["B_im"]) @ x)
    y = ((p["C_re"] + 1j * p["C_im"]) @ h).real + p["D"] @ x
    return y, (h.real, h.imag)


EQUATIONS = [
    ("rnn", {}, rnn),
    ("rnn", {"nonlinearity": "relu", "recurrent": "orthogonal"}, irnn),
    ("irnn", {"scale": 0.9}, irnn),
    ("indrnn", {}, indrnn),
    ("lstm", {}, lstm),
    ("lstm", {"bias": False}, lstm),
    ("peephole", {}, peephole),
    ("lnlstm", {}, lnlstm),
    ("gru", {}, gru),
    ("gru", {"reset": "before"}, gru_before),
    ("gru", {"reset": "before", "bias": False}, gru_before),
    ("mgu", {}, mgu),
    ("mgu", {"bias": False}, mgu),
    ("mingru", {}, mingru),
    ("minlstm", {}, minlstm),
    ("lru", {}, lru),
]


def one_by_one(step, p, xs, state):
    """The outputs and last states of a step function run on each sequence of the batch alone."""
    outputs, ends = [], []
    for b in range(xs.shape[1]):
        s = tree.map(lambda leaf, b=b: leaf[b], state)
        row = []
        for x in xs[:, b]:
            y, s = step(p, x, s)
            row.append(y)
        outputs.append(row)
        ends.append(s)
    return np.swapaxes(outputs, 0, 1), tree.map(lambda *leaves: np.stack(leaves), *ends)


def drawn_state(cell, rng):
    return tree.map(lambda zeros: rng.standard_normal(zeros.shape), cell.initial_state(np.ones((B, D))))


def test_every_cell_is_held_against_its_equations():
    assert {name for name, _, _ in EQUATIONS} | {"slstm"} == set(nn.CELLS)


@pytest.mark.parametrize(
    ("kind", "options", "step"), EQUATIONS, ids=lambda x: getattr(x, "__name__", x and str(x))
)
def test_a_cell_computes_its_equations(kind, options, step):
    rng = np.random.default_rng(0)
    cell = nn.make_cell(kind, D, H, seed=1, **options)
    # Parameters that start at 0 or 1 would hide a term.
    p = {name: a + 0.3 * rng.standard_normal(a.shape) for name, a in cell.state_dict().items()}
    cell.load_state_dict(p)
    xs, state = rng.standard_normal((T, B, D)), drawn_state(cell, rng)
    roll = nn.unroll(cell, xs, state)
    outputs, end = one_by_one(step, p, xs, state)
    np.testing.assert_allclose(roll.outputs.numpy(), outputs, rtol=1e-12, atol=1e-13)
    for mine, theirs in zip(tree.leaves(roll.state), tree.leaves(end), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("forget", "function"), [("sigmoid", sigmoid), ("exp", np.exp)])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_slstm_equals_its_equations_without_the_stabiliser(forget, function, scale):
    rng = np.random.default_rng(0)
    cell = nn.SLSTMCell(D, H, forget=forget, seed=1)
    p = cell.state_dict()
    p["weight_ih"] *= scale
    cell.load_state_dict(p)
    xs = rng.standard_normal((T, B, D))
    h, c, m = (rng.standard_normal((B, H)) for _ in range(3))
    n = 0.1 + rng.random((B, H))
    roll = nn.unroll(cell, xs, (h, c, n, m))

    def step(p, x, state):
        return slstm(p, x, state, function)

    outputs, end = one_by_one(step, p, xs, (h, c * np.exp(m), n * np.exp(m)))
    np.testing.assert_allclose(roll.outputs.numpy(), outputs, rtol=1e-9, atol=1e-12)
    h, c, n, m = (part.numpy() for part in roll.state)
    for mine, theirs in zip((h, c * np.exp(m), n * np.exp(m)), end, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_the_slstm_stays_finite_where_exponentials_do_not(forget, dtype):
    rng = np.random.default_rng(0)
    cell = nn.SLSTMCell(D, H, forget=forget, seed=1, dtype=dtype)
    xs = rng.choice([-1e3, 1e3], (20, B, D)).astype(dtype)
    roll = nn.unroll(cell, xs)
    assert np.abs(np.stack([step["a"] for step in roll.steps])).max() > 1e3
    with np.errstate(all="ignore"):
        outputs, _ = one_by_one(
            lambda p, x, s: slstm(p, x, s, sigmoid if forget == "sigmoid" else np.exp),
            cell.state_dict(),
            xs,
            (np.zeros((B, H)),) * 3,
        )
    assert not np.isfinite(outputs).all()
    assert np.abs(roll.outputs.numpy()).max() <= 1
    sum((leaf.sum() for leaf in roll.state), roll.outputs.sum()).backward()
    assert all(np.isfinite(q.grad).all() for q in cell.parameters())


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_the_first_step_of_the_slstm_is_its_input(forget):
    """From nothing, c / n is z, however small the input gate and large the forget gate."""
    cell = nn.SLSTMCell(D, H, forget=forget, seed=1)
    cell.bias_ih.data = np.repeat([-2e3, 1e3, 0.0, 0.0], H)
    h, state = cell(np.ones((B, D)))
    step = nn.unroll(cell, np.ones((1, B, D))).steps[0]
    np.testing.assert_allclose(h.numpy(), step["o"].numpy() * step["z"].numpy(), rtol=1e-15)
    loss = h.sum() + sum(part.sum() for part in state)
    loss.backward()
    assert all(np.isfinite(p.grad).all() for p in cell.parameters())


# --- where cells start -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lstm", "peephole", "lnlstm"])
def test_the_forget_bias_stands_in_the_rows_of_the_forget_gate(kind):
    cell, plain = nn.make_cell(kind, D, H, forget_bias=1.5, seed=0), nn.make_cell(kind, D, H, seed=0)
    forget = slice(H, 2 * H)
    assert (cell.bias_ih.data[forget] == 1.5).all()
    assert (cell.bias_hh.data[forget] == 0).all()
    for name, array in cell.state_dict().items():
        other = plain.state_dict()[name]
        if name in ("bias_ih", "bias_hh"):
            array, other = np.delete(array, forget), np.delete(other, forget)
        np.testing.assert_array_equal(array, other)
    with pytest.raises(ValueError, match=f"{type(cell).__name__}: forget_bias=1.0 needs biases"):
        nn.make_cell(kind, D, H, bias=False, forget_bias=1.0)


def test_an_irnn_starts_as_a_memory():
    cell = nn.IRNNCell(D, H, seed=0)
    np.testing.assert_array_equal(cell.weight_hh.data, np.eye(H))
    h = np.random.default_rng(0).random((B, H))
    roll = nn.unroll(cell, np.zeros((50, B, D)), h)
    np.testing.assert_array_equal(roll.state.numpy(), h)
    np.testing.assert_array_equal(nn.IRNNCell(D, H, scale=0.5).weight_hh.data, 0.5 * np.eye(H))
    assert 0 < np.abs(cell.weight_ih.data).max() < 0.01


def test_an_rnn_may_start_orthogonal_or_as_the_identity():
    W = nn.RNNCell(D, H, recurrent="orthogonal", seed=0).weight_hh.data
    np.testing.assert_allclose(W @ W.T, np.eye(H), atol=1e-14)
    np.testing.assert_array_equal(nn.RNNCell(D, H, recurrent="identity").weight_hh.data, np.eye(H))
    a, b = nn.RNNCell(D, H, recurrent="orthogonal", seed=0), nn.RNNCell(D, H, seed=0)
    np.testing.assert_array_equal(a.weight_ih.data, b.weight_ih.data)


def test_the_eigenvalues_of_an_lru_lie_on_the_ring_and_never_leave_the_disc():
    cell = nn.LRUCell(D, 2000, r_min=0.4, r_max=0.8, max_phase=3.0, seed=0)
    radius, phase = np.exp(-np.exp(cell.nu_log.data)), np.exp(cell.theta_log.data)
    assert ((radius >= 0.4) & (radius <= 0.8)).all()
    assert ((phase >= 0) & (phase <= 3.0)).all()
    assert phase.max() > 2.5
    np.testing.assert_allclose(np.exp(cell.gamma_log.data) ** 2, 1 - radius**2, rtol=1e-12)
    # Evenly over the area: half of it lies outside the radius that halves the ring.
    assert abs((radius**2 > (0.4**2 + 0.8**2) / 2).mean() - 0.5) < 0.05
    for nu_log in (-30.0, 0.0, 30.0):
        cell.nu_log.data = np.full(2000, nu_log)
        (a_re, a_im), _ = cell.coefficients(np.ones(D))
        assert (np.hypot(a_re.numpy(), a_im.numpy()) < 1).all()
    full = nn.LRUCell(D, 2000, seed=0, dtype=np.float32)
    assert all(np.isfinite(p.data).all() for p in full.parameters())


def test_minlstm_gates_add_up_to_one_even_where_both_underflow():
    cell = nn.MinLSTMCell(D, H, seed=0)
    cell.bias_ih.data = np.repeat([-2e3, -2e3 + np.log(3), 0.0], H)
    step = nn.unroll(cell, np.zeros((1, B, D))).steps[0]
    np.testing.assert_allclose(step["f"].numpy(), 0.25, rtol=1e-12)
    np.testing.assert_allclose(step["f"].numpy() + step["i"].numpy(), 1, rtol=1e-15)


# --- by name ---------------------------------------------------------------------------------------------


def test_an_unknown_cell_or_option_is_named_with_what_there_is():
    with pytest.raises(tg.UserError, match=r"no cell 'grue' \(did you mean 'gru'\?\); cells are rnn, irnn,"):
        nn.make_cell("grue", 2, 3)
    with pytest.raises(tg.UserError, match="there is no cell 'transformer'; cells are"):
        nn.make_cell("transformer", 2, 3)
    with pytest.raises(
        tg.UserError,
        match=r"'lstm' has no option 'forget_bais' \(did you mean 'forget_bias'\?\); its options",
    ):
        nn.make_cell("lstm", 2, 3, forget_bais=1.0)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("rnn", {"nonlinearity": "sin"}, "RNNCell: nonlinearity must be 'tanh' or 'relu', not 'sin'"),
        ("rnn", {"recurrent": "ones"}, "recurrent must be 'uniform', 'identity' or 'orthogonal', not 'ones'"),
        ("indrnn", {"nonlinearity": "sin"}, "IndRNNCell: nonlinearity must be"),
        ("gru", {"reset": "never"}, "GRUCell: reset must be 'after' or 'before', not 'never'"),
        ("slstm", {"forget": "relu"}, "SLSTMCell: forget must be 'sigmoid' or 'exp', not 'relu'"),
        ("lru", {"r_min": 0.9, "r_max": 0.5}, "LRUCell: needs 0 <= r_min < r_max <= 1"),
        ("lru", {"r_max": 1.5}, "LRUCell: needs 0 <= r_min < r_max <= 1"),
    ],
)
def test_options_out_of_range_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        nn.make_cell(kind, 2, 3, **options)
