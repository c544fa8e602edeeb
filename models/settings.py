"""How a character model is trained: the numbers, checked, and sizes that fit a text."""

from __future__ import annotations

import dataclasses
import math

from tensorgrad.errors import UserError
from tensorgrad.optim import cosine, exponential, warmup

__all__ = ["SCHEDULES", "Settings", "fitting_sizes"]

SCHEDULES = ("exponential", "cosine")
"""How the learning rate may fall."""

# Of the learning rate, what a cosine leaves at the last step.
_FLOOR = 0.05


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train. The defaults are those of the tiny Shakespeare figures in the benchmarks.

    Attributes:
        batch: B, streams of text read side by side.
        window: T, timesteps that one gradient reaches back over.
        lr: Adam's learning rate in the first pass over the text.
        decay: what the learning rate is multiplied by after each pass, where the schedule is "exponential".
        schedule: how the learning rate falls: "exponential", by `decay` after each pass, or "cosine", step by
            step along half a cosine to a twentieth at the last one.
        warmup: steps over which the learning rate first rises evenly from nothing, at most all; 0 for none.
        clip: the norm that all gradients together are scaled down to; 0 leaves them as they are.
        valid_fraction: how much of the text, at its end, is held out and evaluated on after each pass.
        epochs: passes over the text; ignored where `steps` is given.
        steps: windows to train on.

    Raises:
        UserError: a number out of its range, or not finite.

    Example:
        >>> Settings(lr=float("nan"))
        Traceback (most recent call last):
        tensorgrad.errors.UserError: the learning rate must be a number above 0, not nan
    """

    batch: int = 50
    window: int = 50
    lr: float = 2e-3
    decay: float = 0.9
    schedule: str = "exponential"
    warmup: int = 0
    clip: float = 5.0
    valid_fraction: float = 0.1
    epochs: int = 10
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("batch size", self.batch),
            ("window length", self.window),
            ("number of epochs", self.epochs),
            ("number of steps", 1 if self.steps is None else self.steps),
        ):
            if type(value) is not int or value < 1:
                raise UserError(f"the {name} must be a whole number from 1 up, not {value!r}")
        if type(self.warmup) is not int or self.warmup < 0:
            raise UserError(
                f"the number of steps to warm up must be a whole number from 0 up, not {self.warmup!r}"
            )
        if self.schedule not in SCHEDULES:
            raise UserError(f"the schedule must be {' or '.join(SCHEDULES)}, not {self.schedule!r}")
        for name, number in (("learning rate", self.lr), ("decay of the learning rate", self.decay)):
            if not 0 < number < math.inf:
                raise UserError(f"the {name} must be a number above 0, not {number}")
        if not 0 <= self.clip < math.inf:
            raise UserError(
                f"the norm to clip at must be a number above 0, or 0 for no clipping, not {self.clip}"
            )
        if not 0 <= self.valid_fraction < 1:
            raise UserError(f"the fraction held out must be from 0 to below 1, not {self.valid_fraction}")

    def rate(self, step: int, per_pass: int, total: int) -> float:
        """The learning rate of a step.

        Args:
            step: its number, from 0.
            per_pass: the number of steps in one pass over the text.
            total: that of all steps.

        Example:
            >>> [Settings(lr=1.0, warmup=2).rate(step, per_pass=3, total=9) for step in range(4)]
            [0.5, 1.0, 1.0, 0.9]
        """
        # A run that is shorter still comes to the rate it was given.
        rising = min(self.warmup, total)
        if self.schedule == "exponential":
            share = min((step + 1) / max(rising, 1), 1.0) * exponential(self.decay)(step // per_pass)
        else:
            falling = cosine(max(total - rising, 1), _FLOOR)
            share = (warmup(rising, falling) if rising else falling)(step)
        return self.lr * share


def fitting_sizes(
    characters: int,
    batch: int | None = None,
    window: int | None = None,
    least: int = 20,
    most: Settings | None = None,
) -> tuple[int, int]:
    """Batch and window with which a pass over a text takes enough steps to learn something.

    Args:
        characters: how many there are to train on.
        batch: B where it is given; otherwise that of `most`, or less for a short text.
        window: T where it is given; otherwise that of `most`, or less where even 8 streams would be too
            short.
        least: steps that a pass should take, where the text is long enough.
        most: has the batch and window for a long text; by default 50 and 50.

    Example:
        >>> fitting_sizes(1_000_000), fitting_sizes(20_000), fitting_sizes(3_600)
        ((50, 50), (19, 50), (8, 22))
    """
    most = most or Settings()
    # The last character is only predicted.
    inputs = max(characters - 1, 1)
    per_step = inputs // least
    if window is None:
        shortest = min(10, inputs)
        window = min(max(per_step // (batch or 8), shortest), most.window)
    if batch is None:
        batch = min(max(per_step // window, 1), most.batch)
    return batch, window
