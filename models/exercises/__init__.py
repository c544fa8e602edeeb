"""Backward passes with one bug each, to be found and mended.

A right source stands beside this file for each network; an exercise is that source with a bug of the table in
`bugs`, and the source is its solution. The sources import NumPy alone.
"""

from __future__ import annotations

import inspect
from difflib import unified_diff
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from tensorgrad.errors import UserError

from .bugs import BUGS, Bug

__all__ = ["EXERCISES", "Bug", "Exercise", "exercise"]

_TITLES = {
    "rnn": "a vanilla RNN",
    "rnn_padded": "a vanilla RNN with padding",
    "lstm": "an LSTM",
    "gru": "a GRU",
}
_TRAINS = {
    "as well": "Trained with this backward, the network learns to remember as if nothing were wrong.",
    "worse": "Trained with this backward, the network learns to remember, but less than it could.",
    "by luck": "Trained with this backward, it depends on luck whether the network learns to remember.",
    "not": "Trained with this backward, the network hardly learns to remember.",
}


class Exercise(NamedTuple):
    """A file with one bug.

    Attributes:
        number: from 1 up.
        bug: the bug.
    """

    number: int
    bug: Bug

    @property
    def name(self) -> str:
        """The name of the file, without its suffix.

        Example:
            >>> EXERCISES[0].name
            'rnn_01'
        """
        return f"{self.bug.source}_{self.number:02}"

    @property
    def cell(self) -> str:
        """What `check_backward` calls the cell.

        Example:
            >>> EXERCISES[0].cell
            'rnn'
        """
        return self.bug.source.partition("_")[0]

    @property
    def title(self) -> str:
        """What a sentence calls the network.

        Example:
            >>> EXERCISES[0].title
            'a vanilla RNN'
        """
        return _TITLES[self.bug.source]

    def module(self) -> ModuleType:
        """The right source, as a module.

        Example:
            >>> EXERCISES[0].module().__name__
            'tensorgrad.models.exercises.rnn'
        """
        return import_module(f"{__name__}.{self.bug.source}")

    def solution(self) -> str:
        """The text of the right source.

        Example:
            >>> "def backward(" in EXERCISES[0].solution()
            True
        """
        return inspect.getsource(self.module())

    def text(self) -> str:
        """The file that is handed out: the source with the bug, under a heading that says what to do.

        Raises:
            ValueError: what a bug replaces does not stand in the source exactly once.

        Example:
            >>> EXERCISES[0].text().splitlines()[0]
            '\"\"\"Exercise 1: the backward of a vanilla RNN, with one bug.'
        """
        _, docstring, code = self._broken().split('"""', 2)
        wrong = f"Its gradients of {', '.join(self.bug.wrong)} are wrong."
        known = wrong if self.bug.wrong else "Called once, it returns the right gradients."
        return (
            f'"""Exercise {self.number}: the backward of {self.title}, with one bug.\n\n'
            f"The forward is right. {known}\n{_TRAINS[self.bug.trains]}\n"
            f"Mend `backward`, then: tensorgrad exercise {self.number} --grade {self.name}.py\n"
            f'{docstring.partition(chr(10))[2]}"""{code}'
        )

    def difference(self) -> str:
        """The lines with the bug, after a minus, and the right ones, after a plus.

        Example:
            >>> print(EXERCISES[0].difference())
            -        dh[t] = dy[t] @ params["W_hy"]
            +        dh[t] = dy[t] @ params["W_hy"] + dh_next
        """
        broken, right = self._broken().splitlines(), self.solution().splitlines()
        lines = list(unified_diff(broken, right, lineterm="", n=0))[2:]
        return "\n".join(line for line in lines if not line.startswith("@@"))

    def _broken(self) -> str:
        text = self.solution()
        for right, wrong in self.bug.edits:
            if text.count(right) != 1:
                raise ValueError(
                    f"exercise {self.number}: {self.bug.source}.py has {text.count(right)} times {right!r}"
                )
            text = text.replace(right, wrong)
        return text


EXERCISES = tuple(Exercise(number, bug) for number, bug in enumerate(BUGS, 1))


def exercise(number: int) -> Exercise:
    """The exercise with a number.

    Raises:
        UserError: there is none.

    Example:
        >>> exercise(1).title
        'a vanilla RNN'
    """
    if not 1 <= number <= len(EXERCISES):
        raise UserError(f"there is no exercise {number}, but 1 to {len(EXERCISES)}")
    return EXERCISES[number - 1]
