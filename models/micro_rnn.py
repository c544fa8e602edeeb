"""A character-level vanilla RNN, small enough to read in one sitting.

Sequences are lists of token ids and every vector is a column: inputs and logits (V, 1), states (H, 1). What a
sequence leaves behind is kept in dictionaries by timestep, ``hs[t]``, with ``hs[-1]`` the initial state, so a
backward pass can be written out by hand beside it. :class:`RNN` has two of its own: one records the unrolled
graph with tensorgrad and differentiates that, the other is the hand-written one of
:mod:`tensorgrad.models.manual.rnn`.

    >>> char_to_idx, idx_to_char, data = create_dataset("hello world")
    >>> rnn = RNN(len(char_to_idx), 16, len(char_to_idx), rng=0)
    >>> inputs, targets = get_batch(data, 0, 5)
    >>> loss, cache, h = rnn.forward(inputs, targets, np.zeros((16, 1)))
    >>> grads = rnn.clip_gradients(rnn.backward(inputs, targets, cache))
    >>> rnn.update_parameters(grads, learning_rate=0.1)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

import tensorgrad as tg
import tensorgrad.functional as F

from .manual import rnn as manual

ByTimestep: TypeAlias = dict[int, np.ndarray]
Cache: TypeAlias = tuple[ByTimestep, ByTimestep, ByTimestep]

PARAMETERS = ("W_xh", "W_hh", "W_hy", "b_h", "b_y")


class SimpleRNN:
    """A vanilla RNN, one timestep at a time.

    The weights start as 0.01 times standard normal numbers, the biases as zeros.

    Args:
        input_size: D, the length of an input vector.
        hidden_size: H, the length of the state.
        output_size: V, the number of classes.
        rng: A seed or a Generator to draw the weights (and samples) from. With None they come from NumPy's
            global state, the one that ``np.random.seed`` sets.

    Attributes:
        W_xh, W_hh, W_hy: The weights, (H, D), (H, H) and (V, H), float64.
        b_h, b_y: The biases, (H, 1) and (V, 1), float64.
        hidden_size: H.

    Raises:
        ValueError: A size is less than 1.

    Example:
        >>> rnn = SimpleRNN(5, 3, 5, rng=0)
        >>> h, y, p = rnn.forward_step(np.eye(5)[:, [2]], np.zeros((3, 1)))
        >>> h.shape, y.shape, p.shape
        ((3, 1), (5, 1), (5, 1))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        for name, size in (("input", input_size), ("hidden", hidden_size), ("output", output_size)):
            if size < 1:
                raise ValueError(f"{name}_size must be at least 1; got {size}")
        self._rng = None if rng is None else np.random.default_rng(rng)
        self.W_xh = 0.01 * self._standard_normal(hidden_size, input_size)
        self.W_hh = 0.01 * self._standard_normal(hidden_size, hidden_size)
        self.W_hy = 0.01 * self._standard_normal(output_size, hidden_size)
        self.b_h = np.zeros((hidden_size, 1))
        self.b_y = np.zeros((output_size, 1))
        self.hidden_size = hidden_size

    def forward_step(self, x: np.ndarray, h_prev: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take one timestep.

        Args:
            x: The input, (D, 1).
            h_prev: The state before the step, (H, 1).

        Returns:
            The state after it (H, 1), the logits (V, 1) and their softmax (V, 1).
        """
        h = np.tanh(self.W_xh @ x + self.W_hh @ h_prev + self.b_h)
        y = self.W_hy @ h + self.b_y
        p = np.exp(y - y.max())
        return h, y, p / p.sum()

    def sample(self, seed_idx: int, h: np.ndarray, length: int) -> list[int]:
        """Draw a sequence from the model, each token fed back in as the next input.

        Args:
            seed_idx: The first input; not part of what is returned.
            h: The state to start from, (H, 1).
            length: How many tokens to draw.

        Returns:
            The token ids, ``length`` of them.

        Raises:
            ValueError: ``seed_idx`` is not a token id, or ``length`` is negative.
        """
        D = self.W_xh.shape[1]
        if not 0 <= seed_idx < D:
            raise ValueError(f"seed_idx must be a token id, 0..{D - 1}; got {seed_idx}")
        if length < 0:
            raise ValueError(f"length must not be negative; got {length}")
        indices: list[int] = []
        idx = seed_idx
        for _ in range(length):
            h, _, p = self.forward_step(_one_hot(idx, D), h)
            idx = self._choice(p.ravel())
            indices.append(idx)
        return indices

    def _standard_normal(self, rows: int, columns: int) -> np.ndarray:
        if self._rng is None:
            return np.random.randn(rows, columns)
        return self._rng.standard_normal((rows, columns))

    def _choice(self, p: np.ndarray) -> int:
        return int(np.random.choice(p.size, p=p) if self._rng is None else self._rng.choice(p.size, p=p))


class RNN(SimpleRNN):
    """A vanilla RNN that learns sequences of tokens.

    Args:
        input_size, hidden_size, output_size, rng: As for :class:`SimpleRNN`.
        gradients: How :meth:`backward` finds the gradients: "autograd" records the unrolled graph and runs
            reverse mode over it, "manual" runs the hand-written backpropagation through time. They agree to
            rounding.

    Attributes:
        gradients: "autograd" or "manual".

    Raises:
        ValueError: ``gradients`` is neither, or a size is less than 1.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        gradients: Literal["autograd", "manual"] = "autograd",
        rng: np.random.Generator | int | None = None,
    ) -> None:
        if gradients not in ("autograd", "manual"):
            raise ValueError(f'gradients must be "autograd" or "manual"; got {gradients!r}')
        super().__init__(input_size, hidden_size, output_size, rng)
        self.gradients = gradients
        self._sum_of_squares = {name: np.zeros_like(p) for name, p in self._parameters().items()}

    def forward(
        self, inputs: Sequence[int], targets: Sequence[int], h_prev: np.ndarray
    ) -> tuple[float, Cache, np.ndarray]:
        """Run the network over a sequence.

        Args:
            inputs: T token ids, 0..D-1.
            targets: T token ids, 0..V-1, the right answers.
            h_prev: The state to start from, (H, 1).

        Returns:
            The cross-entropy summed over the timesteps; the cache ``(xs, hs, ps)`` of dictionaries by
            timestep, which hold the one-hot inputs (D, 1), the states (H, 1) with the initial one at -1, and
            the probabilities (V, 1); and the last state, (H, 1).

        Raises:
            ValueError: There are no inputs, not as many targets as inputs, an id out of range, or a state of
                the wrong shape.
        """
        T, D, V = len(inputs), self.W_xh.shape[1], len(self.W_hy)
        if T == 0 or len(targets) != T:
            raise ValueError(f"a sequence needs inputs, and as many targets; got {T} and {len(targets)}")
        for name, ids, n in (("inputs", inputs, D), ("targets", targets, V)):
            for t, idx in enumerate(ids):
                if not 0 <= idx < n:
                    raise ValueError(f"{name}[{t}] is {idx}; a token id here is one of 0..{n - 1}")
        if np.shape(h_prev) != (self.hidden_size, 1):
            raise ValueError(f"h_prev must be a column, {(self.hidden_size, 1)}; got {np.shape(h_prev)}")

        xs: ByTimestep = {}
        # A copy: the initial state must still be what it was when backward comes.
        hs: ByTimestep = {-1: np.array(h_prev, dtype=np.float64)}
        ps: ByTimestep = {}
        loss = 0.0
        for t in range(T):
            xs[t] = _one_hot(inputs[t], D)
            hs[t], y, ps[t] = self.forward_step(xs[t], hs[t - 1])
            # -log softmax from the logits: the probability itself can round to 0.
            loss += np.log(np.exp(y - y.max()).sum()) + y.max() - y[targets[t], 0]
        return float(loss), (xs, hs, ps), hs[T - 1]

    def backward(self, inputs: Sequence[int], targets: Sequence[int], cache: Cache) -> dict[str, np.ndarray]:
        """Find the gradients of the summed loss with respect to the parameters.

        Args:
            inputs: As given to :meth:`forward`.
            targets: As given to :meth:`forward`.
            cache: What it returned.

        Returns:
            The gradients, "W_xh", "W_hh", "W_hy", "b_h" and "b_y", each of the shape of its parameter.

        Raises:
            ValueError: The arguments are not of one length.
        """
        if not len(inputs) == len(targets) == len(cache[0]):
            raise ValueError(
                f"inputs, targets and cache must be those of one forward pass; "
                f"they have {len(inputs)}, {len(targets)} and {len(cache[0])} timesteps"
            )
        if self.gradients == "manual":
            return self._manual_gradients(targets, cache)
        return self._autograd_gradients(targets, cache)

    def clip_gradients(self, grads: dict[str, np.ndarray], max_value: float = 5) -> dict[str, np.ndarray]:
        """Clip every element of every gradient to [-max_value, max_value].

        Args:
            grads: Gradients by parameter name; left as they are.
            max_value: The bound, positive.

        Returns:
            The clipped gradients, new arrays.

        Raises:
            ValueError: ``max_value`` is not positive.

        Example:
            >>> rnn = RNN(2, 1, 2, rng=0)
            >>> rnn.clip_gradients({"b_y": np.array([[-7.0], [2.0]])})["b_y"].ravel()
            array([-5.,  2.])
        """
        if not max_value > 0:
            raise ValueError(f"max_value must be positive; got {max_value}")
        return {name: np.clip(g, -max_value, max_value) for name, g in grads.items()}

    def update_parameters(self, grads: dict[str, np.ndarray], learning_rate: float) -> None:
        """Take one step of Adagrad; the parameters change in place.

        Each element is divided by the root of the sum of its squared gradients so far. That is what makes a
        learning rate of 0.1 usable with a loss that is summed over the timesteps: plain gradient descent at
        that rate diverges.

        Source: Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
        Optimization" (2011), equation 1.

        Args:
            grads: Gradients by parameter name, each of the shape of its parameter.
            learning_rate: The step size, positive and finite.

        Raises:
            ValueError: ``learning_rate`` is not positive and finite; a gradient is missing or of another
                shape.
        """
        if not 0 < learning_rate < np.inf:
            raise ValueError(f"learning_rate must be positive and finite; got {learning_rate}")
        parameters = self._parameters()
        shapes = {name: parameter.shape for name, parameter in parameters.items()}
        if {name: np.shape(g) for name, g in grads.items()} != shapes:
            raise ValueError(f"grads must have the names and shapes {shapes}")
        for name, parameter in parameters.items():
            self._sum_of_squares[name] += grads[name] ** 2
            # The small number keeps an element that never had a gradient from becoming 0 / 0.
            parameter -= learning_rate * grads[name] / np.sqrt(self._sum_of_squares[name] + 1e-8)

    def _parameters(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in PARAMETERS}

    def _autograd_gradients(self, targets: Sequence[int], cache: Cache) -> dict[str, np.ndarray]:
        """Record the forward pass from the cached inputs and initial state; reverse mode does the rest."""
        xs, hs, _ = cache
        W_xh, W_hh, W_hy, b_h, b_y = parameters = [
            tg.tensor(array, requires_grad=True, name=name) for name, array in self._parameters().items()
        ]
        h = tg.tensor(hs[-1], name="h0")
        ys = []
        for t in range(len(targets)):
            with tg.scope(f"t={t}"):
                a = tg.label(W_xh @ xs[t] + W_hh @ h + b_h, "a")
                h = tg.label(tg.tanh(a), "h")
                ys.append(tg.label(W_hy @ h + b_y, "y"))
        logits = tg.concatenate(ys, axis=1).T
        loss = F.cross_entropy(logits, np.asarray(targets), reduction="sum")
        return dict(zip(PARAMETERS, tg.grad(loss, parameters), strict=True))

    def _manual_gradients(self, targets: Sequence[int], cache: Cache) -> dict[str, np.ndarray]:
        """Hand the cache to the batched backward pass, as a batch of one sequence of row vectors."""
        T = len(targets)
        xs, hs, ps = (
            np.stack([by_timestep[t] for t in steps]).swapaxes(1, 2)
            for by_timestep, steps in zip(cache, (range(T), (*range(T), -1), range(T)), strict=True)
        )
        every_step = np.ones((T, 1))
        batch = manual.Cache(xs, hs, ps, np.reshape(targets, (T, 1)), every_step.astype(bool), every_step)
        parameters = self._parameters()
        rows = {name: p.ravel() if name in ("b_h", "b_y") else p for name, p in parameters.items()}
        grads = manual.backward(rows, batch).params
        return {name: grads[name].reshape(p.shape) for name, p in parameters.items()}


def create_dataset(text: str) -> tuple[dict[str, int], dict[int, str], list[int]]:
    """Number the characters of a text.

    Args:
        text: Any text that is not empty.

    Returns:
        The id of each character, in sorted order; the character of each id; and the text as ids.

    Raises:
        ValueError: The text is empty.

    Example:
        >>> create_dataset("abba")
        ({'a': 0, 'b': 1}, {0: 'a', 1: 'b'}, [0, 1, 1, 0])
    """
    if not text:
        raise ValueError("the text is empty: there is nothing to learn from")
    idx_to_char = dict(enumerate(sorted(set(text))))
    char_to_idx = {ch: i for i, ch in idx_to_char.items()}
    return char_to_idx, idx_to_char, [char_to_idx[ch] for ch in text]


def get_batch(data: Sequence[int], p: int, seq_length: int) -> tuple[list[int], list[int]]:
    """Cut a window out of the data, and the same window one step on, which is what to predict.

    Args:
        data: Token ids.
        p: Where the window begins.
        seq_length: T, its length.

    Returns:
        The inputs ``data[p : p + T]`` and the targets ``data[p + 1 : p + T + 1]``.

    Raises:
        ValueError: The window is empty, or it and its last target don't fit into the data.

    Example:
        >>> get_batch([7, 8, 9, 10], p=1, seq_length=2)
        ([8, 9], [9, 10])
    """
    if seq_length < 1 or p < 0 or p + seq_length + 1 > len(data):
        raise ValueError(
            f"{len(data)} tokens don't hold a window of {seq_length} at {p} and the target after it"
        )
    return list(data[p : p + seq_length]), list(data[p + 1 : p + seq_length + 1])


def _one_hot(idx: int, size: int) -> np.ndarray:
    x = np.zeros((size, 1))
    x[idx] = 1
    return x
