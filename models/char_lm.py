"""A character-level language model: a recurrent cell from one-hot characters to a softmax over the next.

    x_t = onehot(c_t)
    h_t, state_t = cell(x_t, state_(t-1))
    y_t = W_hy h_t + b_y
    p(c_(t+1) | c_1 .. c_t) = softmax(y_t)

Sources: Sutskever, Martens, Hinton, "Generating Text with Recurrent Neural Networks" (2011); Karpathy, "The
Unreasonable Effectiveness of Recurrent Neural Networks" (2015).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tensorgrad import functional as F
from tensorgrad import nn, tree
from tensorgrad.data import Vocabulary, streams
from tensorgrad.errors import CheckpointError, UserError
from tensorgrad.io import Checkpoint, check_names, load_checkpoint, save_checkpoint
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label, no_grad
from tensorgrad.tensor import Tensor

__all__ = ["CELLS", "CharLM", "WindowLoss"]

CELLS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}

# What else a checkpoint may hold beside the model, such as the state of its training.
_EXTRA = "training."


class WindowLoss(NamedTuple):
    """What the model makes of one window of text.

    Attributes:
        loss: the mean cross-entropy over all characters, in nats, 0-d.
        state: the recurrent state after the last timestep, still part of the graph; detach it before carrying
            it into the next window.
        unrolled: the cell's run, with every labelled tensor of every timestep.
    """

    loss: Tensor
    state: Any
    unrolled: nn.Unrolled


class CharLM(nn.Module):
    """Predicts the next character.

    The weights start as the cells and `nn.Linear` draw them: uniform within 1 / sqrt(H), as in PyTorch.

    Args:
        vocabulary: the V characters it knows.
        cell: "rnn", "lstm" or "gru".
        hidden: H, the size of the recurrent state.
        seed: an int or a Generator for the initial weights.
        dtype: float32 or float64.

    Attributes:
        vocabulary, kind, hidden, dtype: as given.
        cell: the `nn` cell, inputs (B, V).
        output: `nn.Linear(H, V)`.

    Raises:
        UserError: an unknown cell, a size under 1, another dtype.

    Example:
        >>> model = CharLM(Vocabulary("hello"), hidden=8, seed=0)
        >>> model.loss(np.array([[0], [1]]), np.array([[1], [2]])).loss.shape
        ()
        >>> "".join(model.sample("hell", length=5, seed=0))
        'lheeo'
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        cell: str = "rnn",
        hidden: int = 128,
        *,
        seed: Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        if cell not in CELLS:
            raise UserError(f"the cell must be one of {', '.join(CELLS)}, not {cell!r}")
        if hidden < 1:
            raise UserError(f"the number of hidden units must be at least 1, not {hidden}")
        self.dtype = _float_dtype(dtype)
        self.vocabulary = vocabulary
        self.kind = cell
        self.hidden = hidden
        rng = as_generator(seed)
        V = len(vocabulary)
        self.cell = CELLS[cell](V, hidden, seed=rng, dtype=self.dtype)
        self.output = nn.Linear(hidden, V, seed=rng, dtype=self.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.vocabulary)} characters"

    def initial_state(self, batch: int) -> Any:
        """The state before any text: zeros, (B, H), for an LSTM two of them.

        Args:
            batch: B.

        Example:
            >>> CharLM(Vocabulary("ab"), hidden=3).initial_state(2).shape
            (2, 3)
        """
        x = np.zeros((batch, len(self.vocabulary)), self.dtype)
        return tree.map(Tensor, self.cell.initial_state(x))

    def forward(self, ids: npt.ArrayLike, state: Any = None) -> tuple[Tensor, nn.Unrolled]:
        """The scores of every next character.

        Args:
            ids: (T, B) or (T,) integers.
            state: what an earlier run left behind, (B, H) or (H,); None for the start of a text.

        Returns:
            The logits, (T, B, V) or (T, V), and the cell's run.

        Raises:
            ShapeError: an id that is no character, a state of another size.
        """
        roll = nn.unroll(self.cell, F.one_hot(ids, len(self.vocabulary), self.dtype), state)
        return label(self.output(roll.outputs), "y"), roll

    def loss(self, xs: npt.ArrayLike, ys: npt.ArrayLike, state: Any = None) -> WindowLoss:
        """The cross-entropy of predicting `ys` from `xs`.

        Args:
            xs: (T, B) integers, the characters.
            ys: (T, B) integers, each one's next character.
            state: the detached state after the window before; None for the start of a text.

        Returns:
            The loss in nats per character, the state after the window, and the cell's run.

        Raises:
            ShapeError: an id that is no character, a state of another size.

        Example:
            >>> model = CharLM(Vocabulary("ab"), hidden=4, seed=0)
            >>> first = model.loss([[0], [1]], [[1], [0]])
            >>> first.loss.backward()
            >>> second = model.loss([[0], [1]], [[1], [0]], tree.map(Tensor.detach, first.state))
        """
        logits, roll = self(xs, state)
        return WindowLoss(label(F.cross_entropy(logits, ys), "loss"), roll.state, roll)

    def evaluate(self, ids: npt.NDArray[np.intp], batch: int = 50, window: int = 100) -> float:
        """How well the model predicts a text it is not trained on; records no graph.

        Args:
            ids: (n,) integers, n at least 2.
            batch: the text is read as so many equal parts side by side, each with its state carried from its
                beginning to its end; what is left over, less than `batch` characters, is not read. 1 reads it
                as one, which is slower and hardly changes the figure of a long text.
            window: timesteps computed at once; does not change the result.

        Returns:
            The mean cross-entropy in nats per character.

        Raises:
            UserError: fewer than two characters, or a size under 1.

        Example:
            >>> model = CharLM(Vocabulary("ab"), hidden=4, seed=0)
            >>> model.evaluate(np.array([0, 1, 0, 1, 1, 0]), batch=1) < 1
            True
        """
        if len(ids) < 2:
            raise UserError(f"a text to evaluate on needs at least two characters, not {len(ids)}")
        if window < 1:
            raise UserError(f"the window length must be at least 1, not {window}")
        batch = min(batch, len(ids) - 1)
        xs, ys = streams(ids[:-1], batch).T, streams(ids[1:], batch).T
        state = self.initial_state(batch)
        total = 0.0
        with no_grad():
            for t in range(0, len(xs), window):
                logits, roll = self(xs[t : t + window], state)
                state = roll.state
                losses = F.cross_entropy(logits, ys[t : t + window], reduction="none")
                total += float(losses.numpy().sum(dtype=np.float64))
        return total / xs.size

    def sample(
        self, prime: str = "", length: int = 200, temperature: float = 1.0, seed: Seed = None
    ) -> Iterator[str]:
        """Write text, character by character, each fed back in as the next input.

        Args:
            prime: text to go on from, not itself repeated. Where it is empty the model goes on from a line
                end, or, knowing none, from a character drawn at random.
            length: how many characters to write.
            temperature: what the logits are divided by. Under 1 plays safe, over 1 dares more; 0 always takes
                the most likely character.
            seed: an int or a Generator for the draws; by default tensorgrad's own.

        Returns:
            An iterator of single characters. The arguments are checked at once, not at the first character.

        Raises:
            UserError: a character in `prime` that the model has never seen, a negative length, a temperature
                that is negative or not finite; or, while writing, weights that have diverged.

        Example:
            >>> model = CharLM(Vocabulary("ab"), hidden=4, seed=0)
            >>> len("".join(model.sample("ab", length=3, seed=0)))
            3
            >>> model.sample("abc")
            Traceback (most recent call last):
            tensorgrad.errors.UserError: the character 'c' at position 2 is unknown; the vocabulary has 'ab'
        """
        if length < 0:
            raise UserError(f"the length of a sample must not be negative, but it is {length}")
        if not (temperature >= 0 and math.isfinite(temperature)):
            raise UserError(f"the temperature must be a number from 0 up, not {temperature}")
        rng = as_generator(seed)
        if not prime:
            known = self.vocabulary.characters
            prime = "\n" if "\n" in known else known[rng.integers(len(known))]
        return self._write(self.vocabulary.encode(prime), length, temperature, rng)

    def _write(
        self, ids: npt.NDArray[np.intp], length: int, temperature: float, rng: np.random.Generator
    ) -> Iterator[str]:
        state: Any = None
        for _ in range(length):
            # Not around the loop: while it waits at the yield, the caller's own code must record as before.
            with no_grad():
                logits, roll = self(ids, state)
            state = roll.state
            ids = np.array([_draw(logits.numpy()[-1], temperature, rng)])
            yield self.vocabulary.characters[ids[0]]

    def to_checkpoint(self) -> Checkpoint:
        """All that is needed to build the model again: weights, vocabulary, sizes.

        Example:
            >>> CharLM(Vocabulary("ab"), hidden=3).to_checkpoint().meta["hidden"]
            3
        """
        meta = {
            "model": "CharLM",
            "cell": self.kind,
            "hidden": self.hidden,
            "dtype": self.dtype.name,
            "vocabulary": self.vocabulary.to_json(),
        }
        return Checkpoint(self.state_dict(), meta)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, source: str = "the checkpoint") -> CharLM:
        """The model that `to_checkpoint` described, whatever of its training stands beside it.

        Args:
            checkpoint: what `to_checkpoint` returned or `load_checkpoint` read.
            source: what to call it in errors, such as the file's name.

        Raises:
            CheckpointError: it is of another model, or its parts do not fit one another.

        Example:
            >>> model = CharLM(Vocabulary("ab"), hidden=3, seed=0)
            >>> CharLM.from_checkpoint(model.to_checkpoint()).hidden
            3
        """
        meta = checkpoint.meta
        if meta.get("model") != "CharLM":
            what = f"is of the model {meta['model']!r}" if "model" in meta else "does not name its model"
            raise CheckpointError(f"{source} {what}; a CharLM is needed here")
        weights = {name: a for name, a in checkpoint.tensors.items() if not name.startswith(_EXTRA)}
        try:
            vocabulary = Vocabulary.from_json(meta.get("vocabulary"))
            _check_sizes(meta, weights, len(vocabulary))
            # A seed, so that the weights that are thrown away take nothing from the package's generator.
            model = cls(vocabulary, meta.get("cell", ""), meta["hidden"], seed=0, dtype=meta.get("dtype"))
        except (CheckpointError, UserError) as error:
            raise CheckpointError(f"{source} is damaged: {error}") from error
        check_names(model.state_dict(), weights, f"the CharLM it describes ({source})")
        model.load_state_dict(weights)
        return model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file: the old file or the new one, never a part of either.

        Args:
            path: the file, replaced if it exists.

        Raises:
            CheckpointError: the place cannot be written.

        Example:
            >>> import tempfile
            >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
            >>> CharLM(Vocabulary("ab"), hidden=3).save(path)
            >>> CharLM.load(path).vocabulary
            Vocabulary('ab')
        """
        parts = self.to_checkpoint()
        save_checkpoint(path, parts.tensors, parts.meta)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CharLM:
        """Read a model that `save` or a `Trainer` wrote.

        Args:
            path: the file.

        Raises:
            CheckpointError: the file is missing, damaged or of another model.
        """
        return cls.from_checkpoint(load_checkpoint(path), str(path))


def _float_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if dtype is None or found not in (np.float32, np.float64):
        raise UserError(f"the dtype must be float32 or float64, not {dtype}")
    return found


def _check_sizes(meta: Mapping[str, Any], weights: Mapping[str, Any], V: int) -> None:
    """Before a model of the claimed size is made: a wrong claim could ask for any amount of memory."""
    shape = np.shape(weights.get("output.weight", ()))
    if type(meta.get("hidden")) is not int or shape != (V, meta["hidden"]):
        raise CheckpointError(
            f"it describes {V} characters and {meta.get('hidden')!r} hidden units, but its output layer has "
            f"shape {shape}"
        )


def _draw(logits: npt.NDArray[Any], temperature: float, rng: np.random.Generator) -> int:
    """An id drawn from softmax(logits / temperature), (V,)."""
    if not np.isfinite(logits).all():
        raise UserError("the model's scores are not finite, so its weights have diverged; train it again")
    below = logits.astype(np.float64) - logits.max()
    if temperature == 0:
        return int(below.argmax())
    with np.errstate(over="ignore"):  # a tiny temperature: -inf is what it should be
        cumulative = np.exp(below / temperature).cumsum()
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1]))
