"""The catalogue of mistakes in a hand-written backward: what each looks like, and the line that mends it.

The lines are those of a batched backward in NumPy, written like the ones in `tensorgrad.models.manual`: rows
of a batch are row vectors; dh_next and dc_next are the carry, what comes back from timestep t + 1.
"""

from __future__ import annotations

import difflib

from tensorgrad.bptt.codes.carries import CARRIES
from tensorgrad.bptt.codes.cells import CELLS
from tensorgrad.bptt.codes.code import Code
from tensorgrad.bptt.codes.outputs import OUTPUTS
from tensorgrad.bptt.codes.weights import WEIGHTS
from tensorgrad.errors import UserError

__all__ = ["CATALOGUE", "Code", "explain"]

CATALOGUE: dict[str, Code] = {code.code: code for code in sorted(CARRIES + CELLS + WEIGHTS + OUTPUTS)}
"""Every mistake by its code."""


def explain(code: str) -> str:
    """A mistake in words: the symptom, the wrong line, the right line, and why it may still train.

    Raises UserError for a code that is not in the catalogue.

    >>> print(explain("BPTT004").splitlines()[0])
    BPTT004: the carry is taken from dh in place of da
    """
    if code not in CATALOGUE:
        near = difflib.get_close_matches(str(code).upper(), CATALOGUE, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise UserError(
            f"there is no code {code!r}; they go from {min(CATALOGUE)} to {max(CATALOGUE)}{meant}"
        )
    found = CATALOGUE[code]
    parts = [f"{found.code}: {found.title}", found.symptom]
    for head, lines in (("Forward", found.forward), ("Wrong", found.wrong), ("Right", found.right)):
        parts.append("\n".join([f"{head}:", *(f"    {line}" for line in lines.splitlines())]))
    parts.append(f"Why it may still train: {found.why_it_may_train}")
    return "\n\n".join(parts)
