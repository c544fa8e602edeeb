"""What character-level language models have in common: the loss, its evaluation, writing text, and files.

A model says how it computes, `forward`, what it carries from window to window, `initial_state`, and how it
was made, `config`. Everything else follows from these, so that recurrent models and transformers are trained,
evaluated, sampled from and saved alike.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.data import Vocabulary, streams
from tensorgrad.errors import CheckpointError, UserError
from tensorgrad.io import Checkpoint, check_names, load_checkpoint, save_checkpoint
from tensorgrad.models.decoding import Sampling, beam_search
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label, no_grad
from tensorgrad.tensor import Tensor

__all__ = ["LanguageModel", "Run", "WindowLoss"]

M = TypeVar("M", bound="LanguageModel")

# Which module defines which model: a file names the model that it is of.
_MODULES = {"CharLM": "char_lm", "TransformerLM": "transformer"}

# What else a checkpoint may hold beside the model, such as the state of its training.
_EXTRA = "training."

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


class LanguageModel(nn.Module):
    """A model that predicts the next character of a text.

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
        """The arguments, beside vocabulary, seed and dtype, that make such a model; JSON values."""
        raise NotImplementedError

    def summary(self) -> str:
        """The kind of model and its sizes in a few words."""
        raise NotImplementedError

    @classmethod
    def check_config(cls, config: Mapping[str, Any], weights: Mapping[str, Any], V: int) -> None:
        """Raise CheckpointError unless the weights are of the size that the config claims.

        It is asked before a model is made: a wrong claim could ask for any amount of memory.
        """
        raise NotImplementedError

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

    def evaluate(self, ids: npt.NDArray[np.intp], batch: int = 50, window: int = 100) -> float:
        """How well the model predicts a text it is not trained on; records no graph.

        Args:
            ids: (n,) integers, n at least 2.
            batch: the text is read as so many equal parts side by side, each with its state carried from its
                beginning to its end; what is left over, less than `batch` characters, is not read. 1 reads it
                as one, which is slower and hardly changes the figure of a long text.
            window: timesteps computed at once; does not change the result of a recurrent model.

        Returns:
            The mean cross-entropy in nats per character.

        Raises:
            UserError: fewer than two characters, or a size under 1.
        """
        if len(ids) < 2:
            raise UserError(f"a text to evaluate on needs at least two characters, not {len(ids)}")
        if window < 1:
            raise UserError(f"the window length must be at least 1, not {window}")
        batch = min(batch, len(ids) - 1)
        xs, ys = streams(ids[:-1], batch).T, streams(ids[1:], batch).T
        state = self.initial_state(batch)
        total = 0.0
        with no_grad(), self.evaluating():
            for t in range(0, len(xs), window):
                logits, state, _ = self(xs[t : t + window], state)
                losses = F.cross_entropy(logits, ys[t : t + window], reduction="none")
                total += float(losses.numpy().sum(dtype=np.float64))
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
            UserError: a character in `prime` that the model has never seen, a negative length, a setting out
                of range; or, while writing, weights that have diverged.
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
            UserError: a character in `prime` that the model has never seen, a negative length, a width under
                1, or weights that have diverged.
        """
        ids = self._start(prime, length, as_generator(seed))
        ((best, *_),) = beam_search(self._step, self._read(ids[:-1]), ids[-1:], width=width, length=length)
        return "".join(self.vocabulary.characters[i] for i in best.ids)

    def _start(self, prime: str, length: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """What to go on from, at least one id."""
        if length < 0:
            raise UserError(f"the length of a sample must not be negative, but it is {length}")
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

    def to_checkpoint(self) -> Checkpoint:
        """All that is needed to build the model again: weights, vocabulary, sizes."""
        meta = {
            "model": type(self).__name__,
            "config": self.config(),
            "dtype": self.dtype.name,
            "vocabulary": self.vocabulary.to_json(),
        }
        return Checkpoint(self.state_dict(), meta)

    @classmethod
    def from_checkpoint(cls: type[M], checkpoint: Checkpoint, source: str = "the checkpoint") -> M:
        """The model that `to_checkpoint` described, whatever of its training stands beside it.

        Args:
            checkpoint: what `to_checkpoint` returned or `load_checkpoint` read.
            source: what to call it in errors, such as the file's name.

        Raises:
            CheckpointError: it is of another model, or its parts do not fit one another.
        """
        meta = checkpoint.meta
        name = meta.get("model")
        kind = _model_class(name)
        if kind is None or not issubclass(kind, cls):
            what = f"is of the model {name!r}" if "model" in meta else "does not name its model"
            needed = "language model" if cls is LanguageModel else cls.__name__
            raise CheckpointError(f"{source} {what}; a {needed} is needed here")
        weights = {name: a for name, a in checkpoint.tensors.items() if not name.startswith(_EXTRA)}
        config = meta.get("config")
        try:
            if not isinstance(config, dict):
                raise CheckpointError("it does not say how the model was made")
            vocabulary = Vocabulary.from_json(meta.get("vocabulary"))
            kind.check_config(config, weights, len(vocabulary))
            # A seed, so that the weights that are thrown away take nothing from the package's generator.
            model: M = kind(vocabulary, seed=0, dtype=meta.get("dtype"), **config)
        except (CheckpointError, TypeError, ValueError, UserError) as error:
            raise CheckpointError(f"{source} is damaged: {error}") from error
        check_names(model.state_dict(), weights, f"the {name} it describes ({source})")
        model.load_state_dict(weights)
        return model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file: the old file or the new one, never a part of either.

        Args:
            path: the file, replaced if it exists.

        Raises:
            CheckpointError: the place cannot be written.
        """
        parts = self.to_checkpoint()
        save_checkpoint(path, parts.tensors, parts.meta)

    @classmethod
    def load(cls: type[M], path: str | os.PathLike[str]) -> M:
        """Read a model that `save` or a `Trainer` wrote; `LanguageModel.load` takes any of them.

        Args:
            path: the file.

        Raises:
            CheckpointError: the file is missing, damaged or of another model.
        """
        return cls.from_checkpoint(load_checkpoint(path), str(path))


def _model_class(name: Any) -> Any:
    """The class that a checkpoint names, or None."""
    module = _MODULES.get(name) if isinstance(name, str) else None
    return module and getattr(importlib.import_module(f"tensorgrad.models.{module}"), name)


def _float_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if dtype is None or found not in (np.float32, np.float64):
        raise UserError(f"the dtype must be float32 or float64, not {dtype}")
    return found
