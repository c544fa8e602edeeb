"""What the studies stand on: walks that end where they are told to, and runs that keep their states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.backward import backpropagate

ONE = np.array(1.0)


def test_a_cut_walk_gives_partial_derivatives() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    y = x * x
    z = y * x
    whole = backpropagate([(z, ONE)], [x, y])
    assert (whole[y.index], whole[x.index]) == (2.0, 12.0)
    parts = backpropagate([(z, ONE)], [x, y], cut=True)
    # With y held fixed.
    assert (parts[y.index], parts[x.index]) == (2.0, 4.0)


def test_a_cut_walk_starting_at_a_wanted_tensor_ends_there() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    y = x * x
    assert backpropagate([(y, ONE)], [y, x], cut=True) == {y.index: 1.0}


def test_hooks_do_not_see_the_gradients_of_a_cut_walk() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    y = x * 3
    y.register_hook(lambda g: g * 10)
    z = tg.exp(y - 6)
    assert backpropagate([(z, ONE)], [y], cut=True)[y.index] == 1.0
    assert backpropagate([(z, ONE)], [y])[y.index] == 10.0
    # On the way to where it ends they act as always.
    assert backpropagate([(z, ONE)], [x], cut=True)[x.index] == 30.0


def test_a_cut_walk_ends_inside_a_checkpointed_piece() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    y = tg.checkpoint(lambda x: x * x, x)
    z = y * x
    found = backpropagate([(z, ONE)], [x, y], cut=True)
    assert (found[y.index], found[x.index]) == (2.0, 4.0)


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_a_run_keeps_the_states_between_its_steps(name: str) -> None:
    cell = nn.make_cell(name, 2, 3, seed=0)
    xs = np.random.default_rng(0).normal(size=(4, 2, 2))
    start = tg.tree.map(lambda z: tg.tensor(z + 0.5), cell.initial_state(xs[0]))
    for reverse in (False, True):
        roll = nn.unroll(cell, xs, start, reverse=reverse)
        assert len(roll.states) == 5
        assert roll.reverse == reverse
        assert roll.states[0] is start
        assert roll.states[-1] is roll.state
        order = [3, 2, 1, 0] if reverse else [0, 1, 2, 3]
        for state, t in zip(roll.states[1:], order, strict=True):
            assert tg.tree.leaves(state)[0] is roll.steps[t]["h"]
    assert nn.unroll(cell, xs).states[0] is None


def test_a_run_keeps_which_sequences_are_alive_and_where_it_was_made() -> None:
    cell = nn.RNNCell(2, 3, seed=0)
    with tg.scope("encoder"):
        roll = nn.unroll(cell, np.ones((3, 2, 2)), lengths=[1, 3])
    assert roll.scope == "encoder"
    assert roll.steps[1]["a"].scope == "encoder/t=1"
    np.testing.assert_array_equal(roll.alive, [[True, True], [False, True], [False, True]])
    np.testing.assert_array_equal(roll.states[0], np.zeros((2, 3)))
    assert nn.unroll(cell, np.ones((3, 2, 2))).alive is None


def test_states_of_layers_and_of_checkpointed_runs() -> None:
    net: Any = nn.GRU(2, 3, num_layers=2, seed=0)
    with tg.scope("decoder"):
        roll = net.unroll(np.ones((3, 1, 2)))
    assert len(roll.states) == 0
    assert (roll.scope, roll.layers["l1"].scope) == ("decoder", "decoder/l1")
    assert roll.layers["l1"].states[2] is roll.layers["l1"].steps[1]["h"]
    assert len(nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((3, 1, 2)), checkpoint=2).states) == 0
