"""A text to learn from that needs no file and no network: the English that every CPython carries.

`pydoc_data.topics` holds the language reference that `help()` shows, from which the paragraphs of prose are
taken: about 180,000 characters. The wording, and so the text, differs a little between versions of Python.
"""

from __future__ import annotations

import re

from tensorgrad.errors import UserError

__all__ = ["python_reference"]

# Typographic marks that only some versions use, and the stars around emphasised words.
_PLAIN = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "*": None}
)
# A sentence or more: tables, grammar and code have other characters, or another beginning or end.
_PROSE = re.compile(r"[A-Z][A-Za-z0-9 ,.;:()'\"_-]{60,}[.:]")


def python_reference() -> str:
    """The prose of Python's language reference, a paragraph on each line.

    Returns:
        Plain ASCII text, the same each time for the same Python.

    Raises:
        UserError: this Python comes without its reference.

    Example:
        >>> text = python_reference()
        >>> text.isascii(), 100_000 < len(text) < 400_000
        (True, True)
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UserError(
            "this Python comes without pydoc_data, the text to learn from; train on a text of your own: "
            "tensorgrad train FILE"
        ) from error
    # Topics overlap: a paragraph that stands in two would be trained on and held out at once. The dict keeps
    # the order.
    paragraphs: dict[str, None] = {}
    for name in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[name]):
            paragraph = " ".join(block.translate(_PLAIN).split())
            if _PROSE.fullmatch(paragraph):
                paragraphs[paragraph] = None
    return "".join(f"{paragraph}\n" for paragraph in paragraphs)
