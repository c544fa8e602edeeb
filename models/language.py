"""What character-level language models have in common: the loss, its evaluation, writing text, and files.

A model says how it computes, `forward`, what it carries from window to window, `initial_state`, and how it
was made, `config`. Everything else follows from these, so that recurrent models and transformers are trained,
evaluated, sampled from and saved alike.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.data import Vocabulary, streams
from tensorgrad.errors import UserError
from tensorgrad.models.decoding import Sampling, beam_search
from tensorgrad.models.files import Saved
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label, no_grad
from tensorgrad.tensor import Tensor

__all__ = ["LanguageModel", "Run", "WindowLoss", "whole"]

# Which module defines which model: a file names the model that it is of.
_MODULES = {"CharLM": "char_lm", "TransformerLM": "transformer"}

# Timesteps of a prime that are read at once: what they leave in memory until the next.
_WINDOW = 100


class Run(NamedTuple):
    """What a model makes of a piece of text.

    Attributes:
        logits: the scores of every next character, (T, B, V).
        state: what the model carries on to the text that follows.
        unrolled: the run over time of a recurrent model, with every labelled tensor; None for others.
    """

    logits: Tensor
    state: Any
    unrolled: nn.Unrolled | None = None


class WindowLoss(NamedTuple):
    """What a model makes of one window of text whose continuation is known.

    Attributes:
        loss: the mean cross-entropy over all characters, in nats, 0-d.
        state: the state after the window, still part of the graph; detach it before carrying it into the next
            window.
        unrolled: the run over time of a recurrent model, with every labelled tensor; None for others.
    """

    loss: Tensor
    state: Any
    unrolled: nn.Unrolled | None = None


class LanguageModel(Saved):
    """A model that predicts the next character of a text. `load` of this class reads any of them.

    Args:
        vocabulary: the V characters it knows.
        seed: an int or a Generator for the initial weights and for what is drawn in training.
        dtype: float32 or float64.

    Attributes:
        vocabulary, dtype: as given.
        rng: the generator; a `Trainer` saves its state, so that training resumes with the same draws.

    Raises:
        UserError: another dtype.
    """

    noun = "language model"

    def __init__(self, vocabulary: Vocabulary, seed: Seed, dtype: Any) -> None:
        self.vocabulary = vocabulary
        self.dtype = _float_dtype(dtype)
        # Never the package's own, whose state is not this model's to save and restore.
        self.rng = as_generator(int(as_generator(None).integers(2**63)) if seed is None else seed)

    def forward(self, ids: npt.ArrayLike, state: Any = None) -> Run:
        """The scores of every next character.

        Args:
            ids: (T, B) integers.
            state: what an earlier run left behind; None for the start of a text.

        Raises:
            ShapeError: an id that is no character, a state that does not fit.
        """
        raise NotImplementedError

    def initial_state(self, batch: int) -> Any:
        """The state before any text, a tree of Tensors with the batch on their first axis.

        Args:
            batch: B.
        """
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary.to_json(), "dtype": self.dtype.name}

    @classmethod
    def arguments(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {**config, "vocabulary": Vocabulary.from_json(config.get("vocabulary"))}

    @classmethod
    def class_called(cls, name: Any) -> Any:
        kind = _model_class(name)
        return kind if kind and issubclass(kind, cls) else None

    def summary(self) -> str:
        """The kind of model and its sizes in a few words."""
        raise NotImplementedError

    def compiles(self, T: int) -> bool:
        """Whether windows of T timesteps all run the same operations, so that `tg.compile` serves.

        Args:
            T: the length of a window.
        """
        return True

    def remedy(self) -> str:
        """What to do when training diverges, if a lower learning rate cannot help this model; else ""."""
        return ""

    def loss(self, xs: npt.ArrayLike, ys: npt.ArrayLike, state: Any = None) -> WindowLoss:
        """The cross-entropy of predicting `ys` from `xs`.

        Args:
            xs: (T, B) integers, the characters.
            ys: (T, B) integers, each one's next character.
            state: the detached state after the window before; None for the start of a text.

        Returns:
            The loss in nats per character, the state after the window, and the run over time.

        Raises:
            ShapeError: an id that is no character, a state of another size.
        """
        logits, after, unrolled = self(xs, state)
        return WindowLoss(label(F.cross_entropy(logits, ys), "loss"), after, unrolled)

    def losses(self, xs: npt.ArrayLike, ys: npt.ArrayLike, state: Any = None) -> tuple[Tensor, Any]:
        """The cross-entropy of every single character, and the state after the last.

        Args:
            xs, ys, state: as for `loss`.

        Returns:
            (T, B) nats, and the state, still part of the graph.

        Raises:
            ShapeError: as `loss` does.
        """
        logits, after, _ = self(xs, state)
        return F.cross_entropy(logits, ys, reduction="none"), after

    @property
    def evaluation_window(self) -> int:
        """How many timesteps `evaluate` computes at once where it is not told.

        Enough to hide the cost of a call, and few enough to stay in the processor's cache.
        """
        return 40

    def evaluate(
        self,
        ids: npt.NDArray[np.intp],
        batch: int = 50,
        window: int | None = None,
        *,
        losses: Callable[..., tuple[Tensor, Any]] | None = None,
    ) -> float:
        """How well the model predicts a text it is not trained on; records no graph.

        Args:
            ids: (n,) integers, n at least 2.
            batch: the text is read as so many equal parts side by side, each with its state carried from its
                beginning to its end; what is left over, less than `batch` characters, is not read. 1 reads it
                as one, which is slower and hardly changes the figure of a long text.
            window: timesteps computed at once; None for `evaluation_window`. It does not change the result of
                a recurrent model. To a transformer a shorter one shows more of the text before each
                character, and takes longer.
            losses: what computes each window: the method of this name, compiled; None for itself.

        Returns:
            The mean cross-entropy in nats per character.

        Raises:
            UserError: fewer than two characters, or a size under 1.
        """
        if len(ids) < 2:
            raise UserError(f"a text to evaluate on needs at least two characters, not {len(ids)}")
        window = self.evaluation_window if window is None else window
        if window < 1:
            raise UserError(f"the window length must be at least 1, not {window}")
        batch = min(batch, len(ids) - 1)
        xs, ys = streams(ids[:-1], batch).T, streams(ids[1:], batch).T
        measure = losses or self.losses
        state = self.initial_state(batch)
        total = 0.0
        with no_grad(), self.evaluating():
            for t in range(0, len(xs), window):
                each, state = measure(xs[t : t + window], ys[t : t + window], state)
                total += float(each.numpy().sum(dtype=np.float64))
        return total / xs.size

    def sample(
        self,
        prime: str = "",
        length: int = 200,
        temperature: float = 1.0,
        seed: Seed = None,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Iterator[str]:
        """Write text, character by character, each fed back in as the next input.

        Args:
            prime: text to go on from, of any length, not itself repeated. Where it is empty the model goes on
                from a line end, or, knowing none, from a character drawn at random.
            length: how many characters to write.
            temperature: what the logits are divided by. Under 1 plays safe, over 1 dares more; 0 always takes
                the most likely character.
            seed: an int or a Generator for the draws; by default tensorgrad's own.
            top_k, top_p: draw among the likeliest characters only, as `decoding.Sampling` says.

        Returns:
            An iterator of single characters. The arguments are checked at once, not at the first character.

        Raises:
            UserError: a character in `prime` that the model has never seen, a length or a setting out of
                range; or, while writing, weights that have diverged.
        """
        sampling, rng = Sampling(temperature, top_k, top_p), as_generator(seed)
        return self._write(self._start(prime, length, rng), length, sampling, rng)

    def beam(self, prime: str = "", length: int = 200, width: int = 5, seed: Seed = None) -> str:
        """The likeliest continuation that a beam search finds.

        Args:
            prime: text to go on from, as for `sample`.
            length: how many characters to write.
            width: how many continuations are kept at every step; 1 always takes the likeliest character.
            seed: for the character to go on from where there is no other, as for `sample`.

        Raises:
            UserError: a character in `prime` that the model has never seen, a length or a width out of
                range, or weights that have diverged.
        """
        ids = self._start(prime, length, as_generator(seed))
        ((best, *_),) = beam_search(self._step, self._read(ids[:-1]), ids[-1:], width=width, length=length)
        return "".join(self.vocabulary.characters[i] for i in best.ids)

    def _start(self, prime: str, length: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """What to go on from, at least one id."""
        whole("length of a sample", length, 0)
        if not prime:
            known = self.vocabulary.characters
            prime = "\n" if "\n" in known else known[rng.integers(len(known))]
        return self.vocabulary.encode(prime)

    def _write(
        self, prime: npt.NDArray[np.intp], length: int, sampling: Sampling, rng: np.random.Generator
    ) -> Iterator[str]:
        state = self._read(prime[:-1]) if length else None
        ids = prime[-1:]
        for _ in range(length):
            logits, state = self._step(ids, state)
            ids = sampling.draw(logits, rng)
            yield self.vocabulary.characters[ids[0]]

    def _read(self, ids: npt.NDArray[np.intp]) -> Any:
        """The state after these ids, (n,), window by window; None after none."""
        state = None
        with no_grad(), self.evaluating():
            for t in range(0, len(ids), _WINDOW):
                state = self(ids[t : t + _WINDOW, None], state).state
        return state

    def _step(self, ids: npt.NDArray[np.intp], state: Any) -> tuple[npt.NDArray[Any], Any]:
        """The scores (N, V) of what follows ids (N,), and the state after them."""
        # Here and not around a loop: while a sample waits, the caller's own code must record as before.
        with no_grad(), self.evaluating():
            run = self(ids[None], state)
        return run.logits.numpy()[0], run.state


def _model_class(name: Any) -> Any:
    """The class that a checkpoint names, or None."""
    module = _MODULES.get(name) if isinstance(name, str) else None
    return module and getattr(importlib.import_module(f"tensorgrad.models.{module}"), name)


def whole(what: str, size: Any, least: int = 1) -> int:
    """The size as an int, if it is a whole number that is large enough.

    Raises:
        UserError: it is not.

    Example:
        >>> whole("context", 1.5)
        Traceback (most recent call last):
        tensorgrad.errors.UserError: the context must be a whole number from 1 up, not 1.5
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < least:
        raise UserError(f"the {what} must be a whole number from {least} up, not {size!r}")
    return int(size)


def _float_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if dtype is None or found not in (np.float32, np.float64):
        raise UserError(f"the dtype must be float32 or float64, not {dtype}")
    return found
