"""Training a character model on a text: one loop for command line, demo, examples and benchmarks.

The loop says nothing and draws nothing: each step is handed to the caller, who shows it, saves, or stops. It
stands with the models and not in the engine, because what it trains is defined here.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tensorgrad import tree
from tensorgrad.compile import compile
from tensorgrad.data import Windows, split
from tensorgrad.errors import CheckpointError, TensorgradError, UserError
from tensorgrad.io import Checkpoint, check_names, load_checkpoint, rng_state, save_checkpoint, set_rng_state
from tensorgrad.models.files import TRAINING
from tensorgrad.models.language import LanguageModel
from tensorgrad.models.settings import Settings, fitting_sizes
from tensorgrad.nn import detach
from tensorgrad.optim import Adam, clip_grad_norm
from tensorgrad.recording import no_grad
from tensorgrad.tensor import Tensor

__all__ = ["DivergedError", "Settings", "Step", "Trainer", "fitting_sizes"]

# A healthy loss starts near ln V, what guessing costs, and falls. So many times that is no learning any more.
_DIVERGED = 10


class DivergedError(TensorgradError, FloatingPointError):
    """The loss or a gradient became NaN, infinite or absurdly large.

    The message says at which step, and what may help.
    """


class Step(NamedTuple):
    """What one step did.

    Attributes:
        number: steps done so far, this one included.
        epoch: the pass over the text that it belongs to, from 1.
        loss: nats per character, before the update.
        grad_norm: the norm of all gradients together, before clipping.
        lr: the learning rate of the update.
        characters: how many characters it learned from, T * B.
        seconds: the time it took, without validation.
        validation: nats per character on the text held out, after the last step of each pass; else None.
    """

    number: int
    epoch: int
    loss: float
    grad_norm: float
    lr: float
    characters: int
    seconds: float
    validation: float | None


def _differentiation(model: LanguageModel, optimiser: Adam, clip: float) -> Callable[..., Any]:
    """A function that leaves the clipped gradients in the parameters.

    It gives the loss, the norm of the gradient before clipping, and the state after the window, detached.
    """

    def differentiate(xs: np.ndarray, ys: np.ndarray, state: Any) -> tuple[Tensor, float, Any]:
        optimiser.zero_grad()
        result = model.loss(xs, ys, state)
        result.loss.backward()
        norm = clip_grad_norm(optimiser.parameters, clip or sys.float_info.max)
        return result.loss, norm, detach(result.state)

    return differentiate


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


class Trainer:
    """Adam on windows of a text, the state carried from window to window, and resumable to the last bit.

    The gradient stops at the start of each window. The state goes back to zeros where the text starts again.

    Args:
        model: is trained in place.
        text: what to learn; every character must be in the model's vocabulary.
        settings: how to train.
        seed: for what is drawn on the way, which is the samples.
        compiled: whether steps and evaluations run compiled (see `tg.compile`) where the model allows it, or
            eagerly, operation by operation. The two agree but for rounding.
        fast: whether what is compiled runs in kernels by numba, as `tg.compile` says.

    Attributes:
        model, settings: as given.
        training_characters: how many characters are trained on, without those held out.
        steps: steps done so far.
        total: steps that the settings ask for.
        history: the last losses, 100 at most.
        validation: nats per character on the text held out, when it was last evaluated; None before.

    Raises:
        UserError: the text is shorter than one window, has characters the model doesn't know, or leaves less
            than two characters to hold out; or `fast` is asked for and numba is missing.

    Example:
        >>> from tensorgrad.data import Vocabulary
        >>> from tensorgrad.models.char_lm import CharLM
        >>> text = "to be or not to be " * 20
        >>> trainer = Trainer(CharLM(Vocabulary(text), hidden=16, seed=0), text, Settings(window=8, batch=4))
        >>> losses = [step.loss for step in trainer.run()]
        >>> trainer.total, losses[-1] < losses[0]
        (100, True)
    """

    def __init__(
        self,
        model: LanguageModel,
        text: str,
        settings: Settings | None = None,
        seed: int = 0,
        *,
        compiled: bool = True,
        fast: bool = False,
    ) -> None:
        self.model = model
        self.settings = settings or Settings()
        train, self._held_out = split(model.vocabulary.encode(text), 1 - self.settings.valid_fraction)
        if self.settings.valid_fraction and len(self._held_out) < 2:
            raise UserError(
                f"holding out {self.settings.valid_fraction} of {len(text)} characters leaves "
                f"{len(self._held_out)} to evaluate on; hold out more or nothing, or give a longer text"
            )
        T, B = self.settings.window, self.settings.batch
        if len(train) <= T * B:
            raise UserError(
                f"the text has {len(text):,} characters, {len(train):,} of them to train on, and windows of "
                f"{T} timesteps in a batch of {B} need at least {T * B + 1:,}; shorten the "
                "window, use a smaller batch or give a longer text"
            )
        self._windows = Windows(train, T, B)
        self.training_characters = len(train)
        self.total = self.settings.steps or self.settings.epochs * self._windows.per_pass
        self._optimiser = Adam(model.parameters(), self.settings.lr)

        def ready(fn: Callable[..., Any], T: int) -> Callable[..., Any]:
            return compile(fn, fast=fast) if compiled and model.compiles(T) else fn

        self._differentiate = ready(_differentiation(model, self._optimiser, self.settings.clip), T)
        self._update = ready(self._optimiser.step, T)
        self._losses = ready(model.losses, model.evaluation_window)
        self._state = model.initial_state(self.settings.batch)
        self._rng = np.random.default_rng(seed)
        self._text = _checksum(text)
        self.history: deque[float] = deque(maxlen=100)
        self.validation: float | None = None

    @property
    def steps(self) -> int:
        """Steps done so far."""
        return self._windows.position

    @property
    def steps_per_epoch(self) -> int:
        """Windows in one pass over the text."""
        return self._windows.per_pass

    @property
    def unread(self) -> int:
        """Characters to train on that no window reads: what is left over at the ends of the streams.

        Example:
            >>> from tensorgrad.data import Vocabulary
            >>> from tensorgrad.models.char_lm import CharLM
            >>> settings = Settings(window=4, batch=1, valid_fraction=0)
            >>> Trainer(CharLM(Vocabulary("to be or"), hidden=4), "to be or", settings).unread
            3
        """
        read = self.steps_per_epoch * self.settings.window * self.settings.batch
        # The last character is only predicted.
        return self.training_characters - 1 - read

    def run(self) -> Iterator[Step]:
        """Step until `total` steps are done.

        Raises:
            DivergedError: as `step` does.
        """
        while self.steps < self.total:
            yield self.step()

    def step(self) -> Step:
        """Learn from the next window.

        Raises:
            DivergedError: the loss or the gradient is not finite, or the loss is ten times what guessing
                costs. The model and everything else are as they were after the step before.
        """
        began = time.perf_counter()
        epoch = self.steps // self._windows.per_pass
        self._optimiser.lr = self.settings.rate(self.steps, self._windows.per_pass, self.total)
        here = self._windows.state()
        try:
            xs, ys, reset = next(self._windows)
            state = self.model.initial_state(xs.shape[1]) if reset else self._state
            # What overflows shows in the loss, the norm and the weights, which are looked at.
            with np.errstate(over="ignore", invalid="ignore"):
                loss, norm = self._learn(xs, ys, state)
        except BaseException:
            # This window has not been learned: what is saved now must go on with it.
            self._windows.restore(here)
            raise
        self.history.append(loss)
        seconds = time.perf_counter() - began

        pass_ended = self.steps % self._windows.per_pass == 0
        if pass_ended and len(self._held_out):
            with np.errstate(over="ignore", invalid="ignore"):
                self.validation = self.model.evaluate(self._held_out, losses=self._losses)
        shown = self.validation if pass_ended else None
        return Step(self.steps, epoch + 1, loss, norm, self._optimiser.lr, xs.size, seconds, shown)

    def _learn(self, xs: np.ndarray, ys: np.ndarray, state: Any) -> tuple[float, float]:
        """Take one step from `state`; returns the loss and the norm of the gradient before clipping."""
        value, norm, after = self._differentiate(xs, ys, state)
        loss = float(value)
        if not self._sane(loss):
            raise DivergedError(f"the loss is {loss:.4g} at step {self.steps}: {self._advice()}")
        if not math.isfinite(norm):
            raise DivergedError(f"the gradient has the norm {norm} at step {self.steps}: {self._advice()}")
        self._update()
        self._state = after
        return loss, norm

    def _sane(self, loss: float) -> bool:
        # Of two or three characters ln V is small, and a window of few can surprise a model that is sure.
        return loss <= _DIVERGED * math.log(max(len(self.model.vocabulary), 10))

    def _advice(self) -> str:
        clip = f"clip harder than at {self.settings.clip:g}" if self.settings.clip else "clip the gradient"
        usual = f"lower the learning rate of {self._optimiser.lr:g}, or {clip}"
        return f"training has diverged; {self.model.remedy() or usual}"

    def sample(self, length: int = 200, temperature: float = 1.0) -> str:
        """A text of the model as it stands, drawn with the trainer's own generator.

        Args:
            length: how many characters.
            temperature: see `LanguageModel.sample`.

        Raises:
            UserError: a negative length, a temperature that is negative or not finite.
        """
        return "".join(self.model.sample("", length, temperature, self._rng))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything needed to go on bit for bit; `LanguageModel.load` reads the same file.

        Args:
            path: the file, replaced whole if it exists.

        Raises:
            DivergedError: the last step has made weights that are not finite, or a loss on the next window
                that is ten times what guessing costs.
            CheckpointError: the place cannot be written.
            Either way an old file is untouched.
        """
        # The next step would find it out, but by then the last good file would be gone.
        if not all(np.isfinite(p.numpy()).all() for p in self.model.parameters()):
            raise DivergedError(f"the weights are not finite after step {self.steps}: {self._advice()}")
        loss = self._loss_ahead()
        if not self._sane(loss):
            raise DivergedError(f"the loss is {loss:.4g} after step {self.steps}: {self._advice()}")
        parts = self.model.to_checkpoint()
        meta = {
            "settings": dataclasses.asdict(self.settings),
            "windows": self._windows.state(),
            "rng": rng_state(self._rng),
            "model_rng": rng_state(self.model.rng),
            "validation": self.validation,
            "text": self._text,
        }
        arrays = {TRAINING + name: array for name, array in self._arrays().items()}
        save_checkpoint(path, {**parts.tensors, **arrays}, {**parts.meta, "training": meta})

    def _loss_ahead(self) -> float:
        """The loss on the next window, which stays the next one; records no graph."""
        here = self._windows.state()
        xs, ys, reset = next(self._windows)
        self._windows.restore(here)
        with no_grad(), self.model.evaluating(), np.errstate(over="ignore", invalid="ignore"):
            return float(self.model.loss(xs, ys, None if reset else self._state).loss)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            "history": np.array(self.history, np.float64),
            **{f"state.{k}": leaf.numpy() for k, leaf in enumerate(tree.leaves(self._state))},
            **{f"optimiser.{name}": array for name, array in self._optimiser.state_dict().items()},
        }

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        text: str,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        compiled: bool = True,
        fast: bool = False,
    ) -> Trainer:
        """A trainer that goes on, bit for bit, where `save` was called.

        Args:
            path: the file that `save` wrote.
            text: the text it was trained on.
            epochs: a new number of passes to train for altogether; None for the saved goal.
            steps: a new number of steps to train for altogether; None for the saved goal.
            compiled, fast: as for `Trainer`. Bit for bit goes on what is run as before.

        Raises:
            CheckpointError: the file is missing, damaged, of another model, without training, or of another
                text.
            UserError: a number under 1.

        Example:
            >>> import tempfile
            >>> from tensorgrad.data import Vocabulary
            >>> from tensorgrad.models.char_lm import CharLM
            >>> text = "to be or not to be " * 20
            >>> trainer = Trainer(CharLM(Vocabulary(text), hidden=8), text, Settings(window=8, batch=4))
            >>> _ = trainer.step()
            >>> path = os.path.join(tempfile.mkdtemp(), "half-way.safetensors")
            >>> trainer.save(path)
            >>> Trainer.resume(path, text).step().loss == trainer.step().loss
            True
        """
        checkpoint = load_checkpoint(path)
        model = LanguageModel.from_checkpoint(checkpoint, str(path))
        training = checkpoint.meta.get("training")
        if training is None:
            raise CheckpointError(
                f"{path} holds a model without its training; there is nothing to go on with"
            )
        try:
            settings = Settings(**training["settings"])
            windows, validation, checksum = (training[key] for key in ("windows", "validation", "text"))
            draws = training["rng"], training["model_rng"]
        except (KeyError, TypeError, UserError) as error:
            raise CheckpointError(
                f"the training in {path} is of another version, or damaged: {error}"
            ) from error
        if epochs is not None or steps is not None:
            epochs = settings.epochs if epochs is None else epochs
            settings = dataclasses.replace(settings, epochs=epochs, steps=steps)
        if checksum != _checksum(text):
            raise CheckpointError(f"{path} was trained on another text; give the same to go on")
        trainer = cls(model, text, settings, compiled=compiled, fast=fast)
        trainer._restore_arrays(checkpoint, f"its training ({path})")
        trainer._windows.restore(windows)
        for generator, saved in zip((trainer._rng, model.rng), draws, strict=True):
            set_rng_state(generator, saved)
        trainer.validation = validation
        return trainer

    def _restore_arrays(self, checkpoint: Checkpoint, what: str) -> None:
        saved = checkpoint.tensors.items()
        found = {name.removeprefix(TRAINING): array for name, array in saved if name.startswith(TRAINING)}
        # The history alone has no length that is known beforehand.
        history = found.get("history", np.empty(0))
        check_names({**self._arrays(), "history": history}, found, what)
        self.history.extend(history.tolist())
        leaves, structure = tree.flatten(self._state)
        self._state = tree.unflatten(structure, [Tensor(found[f"state.{k}"]) for k in range(len(leaves))])
        self._optimiser.load_state_dict(
            {k.removeprefix("optimiser."): a for k, a in found.items() if k.startswith("optimiser.")}
        )
