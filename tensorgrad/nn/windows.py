"""Truncated backpropagation through time: a sequence run window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tensorgrad.errors import ShapeError
from tensorgrad.nn.recurrent import Cell, Recurrent
from tensorgrad.nn.unroll import Unrolled, alive_steps, detach, unroll_alive
from tensorgrad.tensor import Tensor

__all__ = ["truncated"]


def truncated(
    network: Cell | Recurrent, xs: Any, window: int, state: Any = None, lengths: Any = None
) -> Iterator[Unrolled]:
    """Run a cell, or recurrent layers, window by window: truncated backpropagation through time.

    Each window starts from the state after the one before, cut off from its history, so a gradient reaches
    back to the start of its window and no further. Call `backward` on a window's loss before the next one is
    asked for; a window that you still have a name for stays in memory until then.

    xs: (T, B, ...); the last window has what is left. state, lengths: as for `nn.unroll`.
    Raises ValueError for a window under 1 and for layers in two directions, and what `nn.unroll` raises.
    Source: Williams, Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network
    Trajectories" (1990).

    >>> from tensorgrad import nn
    >>> [len(roll) for roll in truncated(nn.RNNCell(2, 3, seed=0), np.ones((8, 1, 2)), window=3)]
    [3, 3, 2]
    """
    if not isinstance(window, (int, np.integer)) or isinstance(window, bool) or window < 1:
        raise ValueError(f"truncated: the window is a number of timesteps from 1 up, not {window!r}")
    xs = xs if isinstance(xs, Tensor) else Tensor(np.array(xs))
    if not xs.ndim or not len(xs):
        raise ShapeError(f"truncated: a sequence needs at least one timestep, but xs has shape {xs.shape}")
    if not isinstance(network, Recurrent):
        alive = None if lengths is None else alive_steps(lengths, xs)
        return _windows(partial(unroll_alive, network), xs, window, state, alive)
    if network.bidirectional:
        raise ValueError("truncated: layers in two directions read what comes later, so not window by window")
    return _windows(
        network._unroll, xs, window, state, None if lengths is None else network._alive(lengths, xs)
    )


def _windows(
    run: Callable[..., Unrolled], xs: Tensor, window: int, state: Any, alive: np.ndarray | None
) -> Iterator[Unrolled]:
    for start in range(0, len(xs), window):
        now = slice(start, start + window)
        roll = run(xs[now], state, None if alive is None else alive[now])
        state = detach(roll.state)
        yield roll
        # Or this window would stay in memory while the next one is made.
        del roll
