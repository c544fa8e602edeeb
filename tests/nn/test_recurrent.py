"""Recurrent layers: PyTorch's numbers, stacks of any cell, masks, regularisation, windows, checkpointing."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import nn, tree
from tensorgrad.errors import CheckpointError, UserError
from tensorgrad.io import load_weights, save_checkpoint, save_weights

KINDS = ["RNN", "LSTM", "GRU"]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def state_for(kind, L, B, H, dtype=np.float64):
    h = normal(L, B, H, seed=7).astype(dtype)
    return (h, normal(L, B, H, seed=8).astype(dtype)) if kind == "LSTM" else h


def total(outputs, state):
    """A number that depends on every output and state, each with a weight of its own."""
    leaves = [outputs, *tree.leaves(state)]
    return sum((x * normal(*x.shape, seed=20 + k).astype(x.dtype)).sum() for k, x in enumerate(leaves))


def error(got, expected):
    return np.linalg.norm(got - expected) / max(np.linalg.norm(expected), 1e-30)


# --- PyTorch ---------------------------------------------------------------------------------------------
def theirs(torch, kind, *arguments, dtype, **options):
    # More of them only wait for each other at these sizes.
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return getattr(torch.nn, kind)(*arguments, **options).to(getattr(torch, np.dtype(dtype).name))


def total_of_theirs(torch, outputs, state):
    leaves = [outputs, *(state if isinstance(state, tuple) else (state,))]
    return sum(
        (x * torch.tensor(normal(*x.shape, seed=20 + k), dtype=x.dtype)).sum() for k, x in enumerate(leaves)
    )


@pytest.mark.parametrize("lengths", [None, [5, 2, 4]], ids=["full", "padded"])
@pytest.mark.parametrize(
    ("layers", "bidirectional", "bias"),
    [(1, False, True), (1, True, False), (2, False, False), (3, True, True)],
)
@pytest.mark.parametrize("kind", [*KINDS, "relu"])
@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-10), ("float32", 1e-5)])
def test_outputs_states_and_all_gradients_equal_pytorch(
    kind, layers, bidirectional, bias, lengths, dtype, limit
):
    torch = pytest.importorskip("torch")
    options = {"bias": bias, "bidirectional": bidirectional}
    if kind == "relu":
        kind, options["nonlinearity"] = "RNN", "relu"
    T, B, D, H = 5, 3, 3, 4
    other = theirs(torch, kind, D, H, layers, dtype=dtype, **options)
    mine = getattr(nn, kind)(D, H, layers, dtype=dtype, **options)
    mine.load_state_dict({name: p.detach().numpy() for name, p in other.state_dict().items()})
    xs = normal(T, B, D).astype(dtype)
    start = state_for(kind, layers * (1 + bidirectional), B, H, dtype)

    inputs = tg.tensor(xs, requires_grad=True)
    before = tree.map(lambda x: tg.tensor(x, requires_grad=True), start)
    outputs, state = mine(inputs, before, lengths)
    total(outputs, state).backward()

    their_inputs = torch.tensor(xs, requires_grad=True)
    their_before = tree.map(lambda x: torch.tensor(x, requires_grad=True), start)
    if lengths is None:
        their_outputs, their_state = other(their_inputs, their_before)
    else:
        packing = torch.nn.utils.rnn
        packed = packing.pack_padded_sequence(their_inputs, torch.tensor(lengths), enforce_sorted=False)
        their_outputs, their_state = other(packed, their_before)
        their_outputs = packing.pad_packed_sequence(their_outputs)[0]
    total_of_theirs(torch, their_outputs, their_state).backward()

    pairs = {"outputs": (outputs.numpy(), their_outputs.detach().numpy())}
    for k, (a, b) in enumerate(zip(tree.leaves(state), tree.leaves(their_state), strict=True)):
        pairs[f"state {k}"] = a.numpy(), b.detach().numpy()
    for k, (a, b) in enumerate(zip(tree.leaves(before), tree.leaves(their_before), strict=True)):
        pairs[f"d start {k}"] = a.grad, b.grad.numpy()
    pairs["d xs"] = inputs.grad, their_inputs.grad.numpy()
    for (name, p), (their_name, q) in zip(mine.named_parameters(), other.named_parameters(), strict=True):
        assert name == their_name
        pairs[f"d {name}"] = p.grad, q.grad.numpy()
    assert {a.dtype.name for a, _ in pairs.values()} == {dtype}
    assert {what: error(a, b) for what, (a, b) in pairs.items() if error(a, b) > limit} == {}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_travel_in_files_both_ways(kind, tmp_path):
    torch = pytest.importorskip("torch")
    files = pytest.importorskip("safetensors.torch")
    other = theirs(torch, kind, 3, 4, 2, bidirectional=True, dtype="float32")
    files.save_file(other.state_dict(), tmp_path / "theirs.safetensors")
    mine = getattr(nn, kind)(3, 4, 2, bidirectional=True, seed=0, dtype=np.float32)
    load_weights(tmp_path / "theirs.safetensors", mine)
    xs = normal(5, 2, 3).astype(np.float32)
    np.testing.assert_allclose(
        mine(xs)[0].numpy(), other(torch.tensor(xs))[0].detach().numpy(), rtol=1e-5, atol=1e-6
    )
    for p in mine.parameters():
        p.data = p.numpy() * 0.5
    save_weights(tmp_path / "mine.safetensors", mine)
    assert other.load_state_dict(files.load_file(tmp_path / "mine.safetensors")).missing_keys == []
    np.testing.assert_allclose(
        mine(xs)[0].numpy(), other(torch.tensor(xs))[0].detach().numpy(), rtol=1e-5, atol=1e-6
    )


def test_parameters_have_pytorch_s_names_and_shapes():
    shapes = {name: p.shape for name, p in nn.LSTM(3, 4, 2, bidirectional=True).named_parameters()}
    assert list(shapes) == [
        f"{part}_{what}_l{layer}{direction}"
        for layer in (0, 1)
        for direction in ("", "_reverse")
        for part, what in (("weight", "ih"), ("weight", "hh"), ("bias", "ih"), ("bias", "hh"))
    ]
    assert shapes["weight_ih_l0"] == (16, 3)
    assert shapes["weight_ih_l1_reverse"] == (16, 8)
    assert shapes["bias_hh_l1"] == (16,)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("missing", r"weight_hh_l1 \(12, 4\) is missing"),
        ("extra", r"weight_hh_l2 \(12, 4\) is unexpected"),
        ("misshapen", r"bias_ih_l0 is \(16,\) and should be \(12,\)"),
    ],
)
def test_a_file_that_does_not_fit_names_the_tensor_and_changes_nothing(change, sentence, tmp_path):
    gru = nn.GRU(3, 4, 2, seed=0)
    arrays = {name: a + 1 for name, a in gru.state_dict().items()}
    if change == "missing":
        del arrays["weight_hh_l1"]
    elif change == "extra":
        arrays["weight_hh_l2"] = np.zeros((12, 4))
    else:
        arrays["bias_ih_l0"] = np.zeros(16)
    save_checkpoint(tmp_path / "w.safetensors", arrays, {})
    before = gru.state_dict()
    with pytest.raises(CheckpointError, match=sentence):
        load_weights(tmp_path / "w.safetensors", gru)
    assert all(np.array_equal(a, before[name]) for name, a in gru.state_dict().items())


# --- any cell --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", list(nn.CELLS))
def test_any_cell_is_stacked_in_both_directions(name):
    rng = np.random.default_rng(0)
    net = nn.Recurrent(lambda D: nn.make_cell(name, D, 4, seed=rng), 3, 2, bidirectional=True)
    xs, lengths = normal(5, 3, 3), [5, 1, 3]
    run = net.unroll(xs, lengths=lengths)
    below = [
        nn.unroll(net.cells[f"l0{mark}"], xs, None, lengths, reverse=bool(mark)) for mark in ("", "_reverse")
    ]
    middle = np.concatenate([roll.outputs.numpy() for roll in below], axis=-1)
    above = [
        nn.unroll(net.cells[f"l1{mark}"], middle, None, lengths, reverse=bool(mark))
        for mark in ("", "_reverse")
    ]
    expected = np.concatenate([roll.outputs.numpy() for roll in above], axis=-1)
    np.testing.assert_allclose(run.outputs.numpy(), expected, rtol=1e-12)
    states = [roll.state for roll in (*below, *above)]
    for got, want in zip(tree.leaves(run.state), tree.leaves(tuple(states)), strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12)
    assert net.output_size == expected.shape[-1]
    again = nn.Recurrent(lambda D: nn.make_cell(name, D, 4, seed=1), 3, 2, bidirectional=True)
    again.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(again(xs, lengths=lengths)[0].numpy(), run.outputs.numpy())


def test_every_labelled_tensor_of_every_layer_is_on_record():
    run = nn.LSTM(3, 4, 2, seed=0).unroll(normal(5, 2, 3))
    assert {"l0.i", "l0.h", "l1.c", "l1.output", "l1.x"} <= set(run.steps[2])
    assert run.steps[2]["l1.h"].scope == "l1/t=2"
    np.testing.assert_array_equal(run.steps[2]["l1.x"].numpy(), run.steps[2]["l0.h"].numpy())
    assert set(run.layers) == {"l0", "l1"}
    alone = nn.LSTM(3, 4, seed=0).unroll(normal(5, 2, 3))
    assert "h" in alone.steps[0]
    assert alone.steps[0]["h"].scope == "t=0"
    dh = tg.grad((run.outputs**2).sum(), [run.steps[0]["l0.c"]])[0]
    assert np.abs(dh).min() > 0


def test_modules_inside_cells_switch_modes():
    class Dropping(nn.Module):
        def __init__(self, D):
            self.input_size, self.hidden_size = D, 4
            self.inner = nn.Linear(D + 4, 4, seed=0)
            self.drop = nn.Dropout(0.5, seed=0)

        def initial_state(self, x):
            return np.zeros((*x.shape[:-1], 4))

        def forward(self, x, h):
            h = tg.tanh(self.inner(tg.concatenate([self.drop(x), h], axis=-1)))
            return h, h

    net = nn.Recurrent(Dropping, 3, 2)
    names = [name for name, _ in net.named_parameters()]
    assert names == ["inner_l0.weight", "inner_l0.bias", "inner_l1.weight", "inner_l1.bias"]
    assert [name for name, _ in net.named_modules()][:3] == ["", "l0", "inner_l0"]
    xs = normal(4, 2, 3)
    assert not np.array_equal(net(xs)[0].numpy(), net(xs)[0].numpy())
    with net.evaluating():
        np.testing.assert_array_equal(net(xs)[0].numpy(), net(xs)[0].numpy())
    assert net.cells["l1"].drop.training


# --- masks -----------------------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    other_lengths=st.lists(st.integers(1, 6), min_size=4, max_size=4),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_sequence_does_not_depend_on_its_batch(kind, lengths, other_lengths, layers, bidirectional, seed):
    """Not on the other sequences and their lengths, to the last bit; not on any being there, or padding."""
    net = getattr(nn, kind)(2, 3, layers, bidirectional=bidirectional, seed=seed)
    T, B = 6, len(lengths)
    xs, others = normal(T, B, 2, seed=seed), 9 * normal(T, B, 2, seed=seed + 1)
    n = lengths[0]
    others[:n, 0] = xs[:n, 0]
    results = []
    for batch, ends in ((xs, lengths), (others, [n, *other_lengths[: B - 1]])):
        inputs = tg.tensor(batch, requires_grad=True)
        outputs, state = net(inputs, lengths=ends)
        row = [outputs[:, 0], *(leaf[:, 0] for leaf in tree.leaves(state))]
        sum((x**2).sum() for x in row).backward()
        results.append([*(x.numpy() for x in row), inputs.grad[:n, 0]])
        assert not outputs.numpy()[n:, 0].any()
        assert not inputs.grad[n:, 0].any()
        assert not inputs.grad[:, 1:].any()
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    outputs, state = net(xs[:n, :1])
    np.testing.assert_allclose(results[0][0][:n], outputs.numpy()[:, 0], rtol=1e-12, atol=1e-14)
    for a, b in zip(results[0][1:], tree.leaves(state), strict=False):
        np.testing.assert_allclose(a, b.numpy()[:, 0], rtol=1e-12, atol=1e-14)


def test_reverse_is_the_flipped_sequence():
    net = nn.GRU(3, 4, 2, seed=0)
    xs = normal(5, 2, 3)
    outputs, state = net(xs, reverse=True)
    flipped, flipped_state = net(xs[::-1])
    np.testing.assert_array_equal(outputs.numpy(), flipped.numpy()[::-1])
    np.testing.assert_array_equal(state.numpy(), flipped_state.numpy())
    with pytest.raises(ValueError, match="both directions already"):
        nn.GRU(3, 4, bidirectional=True)(xs, reverse=True)


# --- regularisation --------------------------------------------------------------------------------------
def inputs_of(run, layer):
    return np.stack([step[f"{layer}.x"].numpy() for step in run.steps])


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_between_layers(variational):
    net = nn.GRU(3, 50, 3, dropout=0.4, variational=variational, seed=0)
    xs = normal(6, 4, 3)
    run = net.unroll(xs)
    np.testing.assert_array_equal(inputs_of(run, "l0"), xs)
    for layer, below in (("l1", "l0"), ("l2", "l1")):
        ratio = inputs_of(run, layer) / run.layers[below].outputs.numpy()
        np.testing.assert_allclose(np.unique(ratio.round(9)), [0, 1 / 0.6])
        assert 0.3 < (ratio == 0).mean() < 0.5
        zeroed = ratio == 0
        assert np.array_equal(zeroed[0], zeroed[1]) == variational
        # Another mask for each sequence.
        assert not np.array_equal(zeroed[0, 0], zeroed[0, 1])
    assert (run.layers["l2"].outputs.numpy() == run.outputs.numpy()).all()
    net.eval()
    np.testing.assert_array_equal(net(xs)[0].numpy(), net(xs)[0].numpy())
    plain = nn.GRU(3, 50, 3, seed=1)
    plain.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(net(xs)[0].numpy(), plain(xs)[0].numpy())


def test_recurrent_dropout_masks_h_alike_at_all_timesteps():
    net = nn.LSTM(3, 40, recurrent_dropout=0.5, seed=0)
    xs = normal(5, 2, 3)
    run = net.unroll(xs)
    mask = None
    for t in range(1, 5):
        h, c = (run.steps[t - 1][name].numpy() for name in "hc")
        # What the cell would do with h masked: the mask that explains the step must be one for all steps.
        if mask is None:
            a = run.steps[t]["a"].numpy() - (
                xs[t] @ net.state_dict()["weight_ih_l0"].T
                + net.state_dict()["bias_ih_l0"]
                + net.state_dict()["bias_hh_l0"]
            )
            masked = np.linalg.lstsq(net.state_dict()["weight_hh_l0"], a.T, rcond=None)[0].T
            mask = (masked / h).round(6)
            assert set(np.unique(mask)) == {0, 2}
        np.testing.assert_allclose(
            net.cells["l0"](xs[t], (h * mask, c))[0].numpy(), run.steps[t]["h"].numpy()
        )
    with net.evaluating():
        plain = nn.unroll(net.cells["l0"], xs)
        np.testing.assert_array_equal(net(xs)[0].numpy(), plain.outputs.numpy())


class Copying(nn.Module):
    """A cell whose state is its input, so that the state shows what happened on the way."""

    def __init__(self, D, parts=1):
        self.input_size = self.hidden_size = D
        self.parts = parts

    def initial_state(self, x):
        return (np.zeros(x.shape),) * self.parts

    def forward(self, x, state):
        h = tg.label(x * 1.0, "h")
        return h, (h, *(x + k for k in range(1, self.parts)))


def test_zoneout_keeps_units_of_the_state():
    net = nn.Recurrent(Copying, 100, zoneout=0.3, seed=0)
    xs = 1 + normal(6, 2, 100) ** 2
    run = net.unroll(xs)
    h, kept = np.zeros((2, 100)), []
    for x, output in zip(xs, run.outputs.numpy(), strict=True):
        old = output == h
        np.testing.assert_array_equal(output[~old], x[~old])
        kept.append(old.mean())
        h = output
    assert 0.25 < np.mean(kept) < 0.35
    np.testing.assert_array_equal(run.state[0][0].numpy(), h)
    # In evaluation the expected value.
    with net.evaluating():
        outputs = net(xs)[0].numpy()
    h = np.zeros((2, 100))
    for x, output in zip(xs, outputs, strict=True):
        h = 0.3 * h + 0.7 * x
        np.testing.assert_allclose(output, h)


def test_each_part_of_a_state_has_its_rate_of_zoneout():
    net = nn.Recurrent(lambda D: Copying(D, 2), 4, zoneout=(0.0, 1.0), seed=0)
    xs = normal(5, 2, 4)
    outputs, ((h, c),) = net(xs)
    np.testing.assert_array_equal(outputs.numpy(), xs)
    np.testing.assert_array_equal(h.numpy(), xs[-1])
    assert not c.numpy().any()
    with pytest.raises(tg.ShapeError, match=r"zoneout has 3 rates, but the state of the cell has 2 parts"):
        nn.Recurrent(lambda D: Copying(D, 2), 4, zoneout=(0.1, 0.2, 0.3))


def test_a_learned_initial_state_is_trained():
    net = nn.LSTM(3, 4, 2, learned_state=True, seed=0)
    names = [name for name, _ in net.named_parameters()]
    assert names[-4:] == ["initial_l0.0", "initial_l0.1", "initial_l1.0", "initial_l1.1"]
    parameters = dict(net.named_parameters())
    for k, name in enumerate(names[-4:]):
        parameters[name].data = normal(4, seed=k)
    xs = normal(5, 3, 3)
    outputs, _ = net(xs)
    (outputs**2).sum().backward()
    # The same as handing the state in, its gradient summed over the batch.
    parts = [np.broadcast_to(parameters[name].numpy(), (3, 4)) for name in names[-4:]]
    before = tuple(tg.tensor(np.stack([parts[k], parts[k + 2]]), requires_grad=True) for k in (0, 1))
    given, _ = net(xs, before)
    np.testing.assert_array_equal(given.numpy(), outputs.numpy())
    (given**2).sum().backward()
    for k, part in enumerate(before):
        for layer in (0, 1):
            got = parameters[f"initial_l{layer}.{k}"].grad
            np.testing.assert_allclose(got, part.grad[layer].sum(axis=0), rtol=1e-12)
    unbatched, _ = net(xs[:, 0])
    np.testing.assert_allclose(unbatched.numpy(), outputs.numpy()[:, 0], rtol=1e-12)


@pytest.mark.parametrize("name", list(nn.CELLS))
def test_recurrent_dropout_bounds_the_state_or_is_refused(name):
    """Zeroing at every step scales the rest up at every step: too much where h is its own memory."""
    cell = nn.make_cell(name, 3, 8, seed=0)
    if cell.carries_h:
        with pytest.raises(ValueError, match=f"{type(cell).__name__} carries h itself .* use zoneout"):
            nn.Recurrent(lambda D: cell, 3, recurrent_dropout=0.5)
    else:
        net = nn.Recurrent(lambda D: cell, 3, recurrent_dropout=0.5, zoneout=np.float32(0), seed=0)
        assert np.abs(net(normal(200, 2, 3))[0].numpy()).max() <= 1
    with pytest.raises(ValueError, match="carries h itself"):
        nn.Recurrent(
            lambda D: nn.RNNCell(D, 8, nonlinearity="relu", recurrent="identity"), 3, recurrent_dropout=0.5
        )


def test_probabilities_and_sizes_out_of_range():
    for options in ({"dropout": 1.5}, {"recurrent_dropout": -1}, {"zoneout": 2}, {"zoneout": (0.1, "x")}):
        with pytest.raises(ValueError, match=f"GRU: {next(iter(options))} is a probability, 0 to 1, not"):
            nn.GRU(3, 4, **options)
    for sizes in ((0, 4), (3, 0), (3, 4, 0)):
        with pytest.raises(ValueError, match="positive"):
            nn.GRU(*sizes)
    with pytest.raises(UserError, match=r"there is no cell 'gruu' .did you mean 'gru'.*lstm"):
        nn.Recurrent(lambda D: nn.make_cell("gruu", D, 4), 3)


# --- windows ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("network", ["cell", "layers"])
def test_truncated_windows_carry_the_state_and_cut_the_gradient(network):
    net = nn.GRUCell(3, 4, seed=0) if network == "cell" else nn.GRU(3, 4, 2, seed=0)
    xs = normal(8, 2, 3)
    lengths = [8, 4]
    whole = nn.unroll(net, xs, lengths=lengths) if network == "cell" else net.unroll(xs, lengths=lengths)
    outputs = []
    for roll in nn.truncated(net, xs, 3, lengths=lengths):
        (roll.outputs**2).sum().backward()
        outputs.append(roll.outputs.numpy())
        last = roll.state
    assert [len(piece) for piece in outputs] == [3, 3, 2]
    np.testing.assert_allclose(np.concatenate(outputs), whole.outputs.numpy(), rtol=1e-12)
    np.testing.assert_allclose(last.numpy(), whole.state.numpy(), rtol=1e-12)
    # By hand: every window from a constant state.
    expected = {name: 0.0 for name, _ in net.named_parameters()}
    got = {name: p.grad for name, p in net.named_parameters()}
    state = None
    for start in (0, 3, 6):
        net.zero_grad()
        piece = xs[start : start + 3]
        left = np.maximum(np.array(lengths) - start, 0)
        run = (lambda *a: nn.unroll(net, *a)) if network == "cell" else net.unroll
        if left.min() > 0:
            roll = run(piece, state, np.minimum(left, 3))
            (roll.outputs**2).sum().backward()
            state = nn.detach(roll.state)
        else:
            # The second sequence has ended: only the first counts.
            alone = tree.map(lambda h: h[..., :1, :], state)
            roll = run(piece[:, :1], alone)
            (roll.outputs**2).sum().backward()
        expected = {name: expected[name] + p.grad for name, p in net.named_parameters()}
    for name, g in got.items():
        np.testing.assert_allclose(g, expected[name], rtol=1e-10)


def test_two_directions_cannot_go_window_by_window():
    with pytest.raises(ValueError, match="layers in two directions read what comes later"):
        nn.truncated(nn.GRU(3, 4, bidirectional=True), np.ones((5, 2, 3)), 2)


@pytest.mark.parametrize("window", [0, -1, 2.5])
def test_a_window_of_no_length_is_refused(window):
    with pytest.raises(ValueError, match="from 1 up"):
        nn.truncated(nn.GRUCell(3, 4), np.ones((5, 2, 3)), window)


# --- checkpointing over time -----------------------------------------------------------------------------
@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(list(nn.CELLS)),
    piece=st.one_of(st.integers(1, 12), st.just("sqrt")),
    reverse=st.booleans(),
    padded=st.booleans(),
    T=st.integers(1, 10),
)
def test_checkpointing_over_time_gives_the_same_bits(name, piece, reverse, padded, T):
    results = []
    for checkpoint in (None, piece):
        options = {"dropout": 0.2, "zoneout": 0.1, "learned_state": True}
        if nn.CELLS[name].scaled_state:
            options["zoneout"] = (0.1, 0, 0, 0)
        if not nn.make_cell(name, 3, 4).carries_h:
            options["recurrent_dropout"] = 0.2
        net = nn.Recurrent(lambda D: nn.make_cell(name, D, 4, seed=1), 3, 2, seed=2, **options)
        xs = tg.tensor(normal(T, 3, 3), requires_grad=True)
        lengths = [T, (T + 1) // 2, 1] if padded else None
        outputs, state = net(xs, None, lengths, reverse, checkpoint)
        total(outputs, state).backward()
        results.append([outputs.numpy(), xs.grad, *(p.grad for p in net.parameters())])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_checkpointing_saves_memory():
    """Of a run's memory there remains what one piece needs, the outputs, and the states between pieces."""

    def peak(T, checkpoint):
        net = nn.LSTM(4, 16, seed=0)
        xs = normal(T, 4, 4)
        tracemalloc.start()
        _, (h, _) = net(xs, checkpoint=checkpoint)
        (h**2).sum().backward()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(4, None)
    whole, pieces = peak(400, None), peak(400, "sqrt")
    assert pieces < whole / 3
    # The rest grows with the square root of T, of which there is four times as much.
    outputs = 400 * 4 * 16 * 8
    assert pieces - 4 * outputs < 0.25 * (whole - 4 * outputs)


@pytest.mark.parametrize("checkpoint", [0, -2, "square", 1.5, True])
def test_a_checkpoint_of_no_length_is_refused(checkpoint):
    with pytest.raises(ValueError, match="number of timesteps from 1 up, or 'sqrt', not"):
        nn.unroll(nn.RNNCell(3, 4), np.ones((5, 2, 3)), checkpoint=checkpoint)


# --- bad input -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"xs": np.ones((5, 2, 7))}, r"LSTM: the input must be \(T, B, 3\).* not \(5, 2, 7\)"),
        ({"xs": np.ones((0, 2, 3))}, r"at least one timestep, not \(0, 2, 3\)"),
        ({"xs": np.ones(3)}, r"not \(3,\)"),
        ({"state": np.ones((2, 2, 4))}, r"a tuple \(h, c\) of two Tensors of shape \(2, 2, 4\)"),
        ({"state": (np.ones((2, 3, 4)),) * 2}, r"l0, l1, not \[\(2, 3, 4\), \(2, 3, 4\)\]"),
        ({"state": {"h": np.ones((2, 2, 4))}}, r"a tuple \(h, c\) .* not a dict of \(2, 2, 4\)"),
        ({"lengths": [5, 6]}, r"lengths must lie in 1\.\.5, the number of timesteps, but lengths\[1\] is 6"),
        ({"lengths": [0, 5]}, r"lengths\[0\] is 0"),
        ({"lengths": [5]}, r"lengths must be 2 integers"),
        ({"lengths": [1.0, 2.0]}, r"lengths must be 2 integers"),
    ],
)
def test_bad_input_names_what_was_expected_and_found(arguments, sentence):
    with pytest.raises(tg.ShapeError, match=sentence):
        nn.LSTM(3, 4, 2, seed=0)(**{"xs": np.ones((5, 2, 3)), **arguments})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learned", [False, True])
def test_the_initial_state_is_a_state(kind, learned):
    net = getattr(nn, kind)(3, 4, 2, bidirectional=True, learned_state=learned, seed=0)
    xs = normal(5, 2, 3)
    start = net.initial_state(xs[0])
    assert {leaf.shape for leaf in tree.leaves(start)} == {(4, 2, 4)}
    np.testing.assert_array_equal(net(xs, start)[0].numpy(), net(xs)[0].numpy())


def test_lengths_without_a_batch_are_refused():
    with pytest.raises(tg.ShapeError, match=r"GRU: lengths go with a batch \(T, B, D\), not with \(5, 4\)"):
        nn.GRU(4, 4)(np.ones((5, 4)), lengths=[1, 2, 3, 4])
    with pytest.raises(tg.ShapeError, match="lengths go with a batch"):
        nn.truncated(nn.GRU(4, 4), np.ones((5, 4)), 2, lengths=[1, 2, 3, 4])


def test_what_is_no_cell_is_refused():
    with pytest.raises(tg.GraphError, match="a function has no input_size and no hidden_size and no initial"):
        nn.Recurrent(lambda D: lambda x, h: (h, h), 3)


def test_a_wrong_state_of_a_stack_of_any_cell():
    net = nn.Recurrent(lambda D: nn.GRUCell(D, 4), 3, 2)
    xs = np.ones((5, 2, 3))
    with pytest.raises(tg.ShapeError, match=r"states of 2 cells \(l0, l1\), not 1 of them"):
        net(xs, (np.ones((2, 4)),))
    with pytest.raises(tg.ShapeError, match=r"states of 2 cells \(l0, l1\), not ndarray"):
        net(xs, np.ones((2, 2, 4)))
    with pytest.raises(tg.ShapeError, match=r"GRUCell in scope 'l1/t=0'.*\(3, 4\)"):
        net(xs, (np.ones((2, 4)), np.ones((3, 4))))


def test_it_shows_what_it_is():
    assert repr(nn.GRU(3, 4, 2, dropout=0.1, learned_state=True)).splitlines() == [
        "GRU(3, 4, num_layers=2, dropout=0.1, learned_state=True",
        "  l0: GRUCell(3, 4)",
        "  l1: GRUCell(4, 4)",
        ")",
    ]


def test_what_has_not_begun_stays_at_the_start_of_its_cell():
    class Starting(Copying):
        def initial_state(self, x):
            return np.full(x.shape, 7.0)

        def forward(self, x, h):
            return x + h, x + h

    xs = np.ones((4, 2, 1))
    roll = nn.unroll(Starting(1), xs, lengths=[4, 2], reverse=True)
    np.testing.assert_array_equal(roll.outputs.numpy()[:, :, 0], [[11, 9], [10, 8], [9, 0], [8, 0]])


@pytest.mark.parametrize("kind", KINDS)
def test_training_follows_pytorch(kind):
    torch = pytest.importorskip("torch")
    other, readout = (
        theirs(torch, kind, 5, 8, dtype="float64"),
        theirs(torch, "Linear", 8, 5, dtype="float64"),
    )
    mine, output = getattr(nn, kind)(5, 8), nn.Linear(8, 5)
    for a, b in ((mine, other), (output, readout)):
        a.load_state_dict({name: p.detach().numpy() for name, p in b.state_dict().items()})
    adam = tg.optim.Adam([*mine.parameters(), *output.parameters()], 1e-2)
    their_parameters = [*other.parameters(), *readout.parameters()]
    their_adam = torch.optim.Adam(their_parameters, 1e-2)
    rng = np.random.default_rng(0)
    for _ in range(200):
        ids = np.tile(rng.integers(5, size=(2, 4)), (4, 1))
        xs = np.eye(5)[ids]
        loss = tg.cross_entropy(output(mine(xs[:-1])[0]), ids[1:])
        adam.zero_grad()
        loss.backward()
        tg.optim.clip_grad_norm(adam.parameters, 0.5)
        adam.step()
        logits = readout(other(torch.tensor(xs[:-1]))[0]).flatten(0, 1)
        their_loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]).flatten())
        their_adam.zero_grad()
        their_loss.backward()
        torch.nn.utils.clip_grad_norm_(their_parameters, 0.5)
        their_adam.step()
        assert abs(loss.item() - their_loss.item()) < 1e-8
    assert loss.item() < 1.2


def test_a_list_of_parts_will_do_for_a_state():
    lstm, xs = nn.LSTM(3, 4, seed=0), np.ones((5, 2, 3))
    h, c = state_for("LSTM", 1, 2, 4)
    np.testing.assert_array_equal(lstm(xs, [h, c])[0].numpy(), lstm(xs, (h, c))[0].numpy())
    with pytest.raises(tg.ShapeError, match=r"one Tensor of shape \(1, 2, 4\).* not a tuple of \(1, 2, 4\)"):
        nn.GRU(3, 4)(xs, (h,))


def test_zoneout_leaves_parts_together_that_mean_nothing_apart():
    def make(zoneout):
        return nn.Recurrent(lambda D: nn.SLSTMCell(D, 4, seed=0), 3, zoneout=zoneout, seed=0)

    with pytest.raises(ValueError, match="SLSTMCell keeps the parts of its state relative to one another"):
        make(0.5)
    outputs, _ = make((0.5, 0, 0, 0))(20 * normal(50, 2, 3))
    assert np.abs(outputs.numpy()).max() < 1


@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout", "zoneout"])
def test_a_probability_of_numpy_s_does_not_widen_float32(option):
    net = nn.LSTM(3, 4, 2, dtype=np.float32, seed=0, **{option: np.float64(0.25)})
    xs = normal(5, 2, 3).astype(np.float32)
    for mode in (True, False):
        assert net.train(mode)(xs)[0].dtype == np.float32


def test_backwards_a_shorter_sequence_needs_a_start():
    def counting(x, h=None):
        h = (np.ones(x.shape) if h is None else h) + x
        return h, h

    xs = np.ones((4, 2, 1))
    assert nn.unroll(counting, xs, lengths=[4, 4], reverse=True).outputs.numpy()[0, 0] == 5
    with pytest.raises(tg.ShapeError, match="waits at the initial state, which this cell does not tell"):
        nn.unroll(counting, xs, lengths=[4, 2], reverse=True)


def test_truncated_windows_keep_one_window_in_memory():
    net = nn.LSTM(8, 16, seed=0)
    xs = normal(300, 4, 8)

    def peak(lengths_of_windows):
        tracemalloc.start()
        for roll in nn.truncated(net, xs[: sum(lengths_of_windows)], lengths_of_windows[0]):
            (roll.outputs**2).sum().backward()
            del roll
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak([10])
    assert peak([100, 100, 100]) < 1.3 * peak([100])


def test_pytorch_s_batch_first_is_answered():
    with pytest.raises(TypeError, match="GRU: there is no batch_first; sequences are"):
        nn.GRU(3, 4, batch_first=True)


def test_an_empty_sequence_has_no_windows():
    with pytest.raises(tg.ShapeError, match="truncated: a sequence needs at least one timestep"):
        nn.truncated(nn.GRUCell(3, 4), np.ones((0, 2, 3)), 2)


def test_each_sequence_has_its_own_mask_of_recurrent_dropout():
    net = nn.RNN(3, 40, recurrent_dropout=0.5, seed=0)
    xs = np.repeat(normal(3, 1, 3), 2, axis=1)
    outputs, _ = net(xs)
    assert not np.allclose(outputs.numpy()[1:, 0], outputs.numpy()[1:, 1])


def test_a_learned_start_of_an_slstm_has_the_right_gradient():
    """At zero its memory is empty: one-sided differences, since only there does a rule of its own hold."""
    for forget in ("sigmoid", "exp"):
        cell = nn.SLSTMCell(2, 3, forget=forget, seed=0)
        xs = normal(3, 2, 2)

        def value(h, c, n, m, cell=cell, xs=xs):
            roll = nn.unroll(cell, xs, (h, c, n, m))
            return (roll.outputs**2).sum()

        start = [tg.tensor(np.zeros((2, 3)), requires_grad=True) for _ in range(4)]
        grads = tg.grad(value(*start), start)
        base = value(*start).item()
        for k in (0, 1, 2):
            for i in np.ndindex(2, 3):
                moved = [np.zeros((2, 3)) for _ in range(4)]
                moved[k][i] = 1e-7
                slope = (value(*map(tg.tensor, moved)).item() - base) / 1e-7
                np.testing.assert_allclose(grads[k][i], slope, rtol=1e-4, atol=1e-6)
