"""DOT text to SVG, PNG or PDF, by whichever Graphviz this machine has.

The `dot` program comes first, then the Graphviz library that the wheels of `pygraphviz` carry. The library
runs in a process of its own: it can neither be interrupted nor run in two threads, and it writes its warnings
to the terminal past Python.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

from tensorgrad.errors import TensorgradError

__all__ = ["FORMATS", "INSTALL", "RenderError", "render"]

FORMATS = ("svg", "png", "pdf")
INSTALL = "install Graphviz (https://graphviz.org/download), or pygraphviz, which brings it along"
# PNG is looked at on screens with more dots to the inch than Graphviz's 96.
_PNG_DPI = 144

_LIBRARY = f"""
import sys
sys.path[:] = sys.argv[2:]
import pygraphviz
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
if sys.argv[1] == "png":
    graph.graph_attr["dpi"] = "{_PNG_DPI}"
sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog="dot"))
"""


class RenderError(TensorgradError, RuntimeError):
    """A drawing could not be made into a picture."""


def render(source: str, form: str, timeout: float = 60.0) -> bytes:
    """The picture of a DOT text.

    Args:
        source: DOT text, for the layout of Graphviz's `dot`.
        form: "svg", "png" or "pdf".
        timeout: seconds after which to give up.

    Raises:
        RenderError: no Graphviz is installed, it takes longer than `timeout`, or it fails.
        ValueError: another format.

    Example:
        >>> render("digraph { a -> b }", "svg")[:5]  # doctest: +SKIP
        b'<?xml'
    """
    if form not in FORMATS:
        raise ValueError(f"a drawing can be made into {', '.join(FORMATS)}, not {form!r}")
    commands = _commands(form)
    if not commands:
        raise RenderError(f"drawing {form.upper()} needs Graphviz: {INSTALL}")
    reasons = []
    for command in commands:
        try:
            # Not through the graphviz package, which has no time limit.
            done = subprocess.run(
                command,
                input=source.encode(),
                capture_output=True,
                timeout=timeout,
                check=False,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except subprocess.TimeoutExpired:
            raise RenderError(
                f"Graphviz has not finished the {form.upper()} after {timeout:g} seconds: draw fewer "
                "timesteps or give it more time"
            ) from None
        except OSError as error:
            reasons.append(f"{command[0]} does not run: {error.strerror or error}")
            continue
        if done.returncode == 0 and done.stdout:
            return done.stdout
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reasons.append(said[-1] if said else f"it ended with status {done.returncode}")
    raise RenderError(f"Graphviz could not make the {form.upper()}: {'; '.join(reasons)}")


def _commands(form: str) -> list[list[str]]:
    """What can be run here to render, the best first."""
    commands = []
    program = shutil.which("dot")
    if program is not None:
        commands.append([program, f"-T{form}", *([f"-Gdpi={_PNG_DPI}"] if form == "png" else ())])
    if sys.executable and importlib.util.find_spec("pygraphviz") is not None:
        path = [entry for entry in sys.path if isinstance(entry, str)]
        commands.append([sys.executable, "-c", _LIBRARY, form, *path])
    return commands
