"""DOT text to SVG, PNG or PDF, by whichever Graphviz this machine has.

The `dot` program comes first, then the Graphviz library that the wheels of `pygraphviz` carry. The library
runs in a process of its own: it can neither be interrupted nor run in two threads, and it writes its warnings
to the terminal past Python.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys

from tensorgrad.errors import TensorgradError

__all__ = ["FORMATS", "INSTALL", "RenderError", "render"]

FORMATS = ("svg", "png", "pdf")
INSTALL = "install Graphviz (https://graphviz.org/download), or pygraphviz, which brings it along"
# PNG is looked at on screens with more dots to the inch than Graphviz's 96; with fewer than the least, the
# smallest letters are 7 dots high and hard to read.
_PNG_DPI, _LEAST_DPI = 144, 50
# The longest side that Cairo can draw, and as many dots in all as take 400 MB.
_LONGEST, _MOST_DOTS = 32_767, 100_000_000
# Acrobat shows no page longer than 14,400 points (PDF Reference 1.7, appendix C.2); there, a page is shrunk,
# which loses nothing.
_PDF_INCHES = 200

_EXTENT = re.compile(r'digraph \{\s+graph \[bb="0,0,([0-9.]+),([0-9.]+)"')
# Freeing a layout takes time by the square of its clusters, 2.5 seconds for 2,000; it goes with the process.
_LIBRARY = """
import os, sys
sys.path[:] = sys.argv[3:]
import pygraphviz, pygraphviz.graphviz
pygraphviz.graphviz.gvFreeLayout = lambda *_: None
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
name, _, value = sys.argv[2].partition("=")
if name:
    graph.graph_attr[name] = value
sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog="dot"))
sys.stdout.flush()
os._exit(0)
"""


class RenderError(TensorgradError, RuntimeError):
    """A drawing could not be made into a picture."""


def render(source: str, form: str, timeout: float = 60.0) -> bytes:
    """The picture of a DOT text.

    Args:
        source: DOT text; laid out as it says itself, or else by Graphviz's `dot`.
        form: "svg", "png" or "pdf".
        timeout: seconds after which to give up.

    Raises:
        RenderError: no Graphviz is installed, it takes longer than `timeout`, or it fails; or the drawing is
            so large that nobody could read a PNG of it.
        ValueError: another format.

    Example:
        >>> render("digraph { a -> b }", "svg")[:5]  # doctest: +SKIP
        b'<?xml'
    """
    if form not in FORMATS:
        raise ValueError(f"a drawing can be made into {', '.join(FORMATS)}, not {form!r}")
    commands = _commands(form, _option(source, form))
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


def _option(source: str, form: str) -> str:
    """An attribute for the whole drawing, such as "dpi=144"; empty for none."""
    match = _EXTENT.match(source)
    width, height = (max(float(side), 1.0) for side in match.groups()) if match else (1.0, 1.0)
    longest = max(width, height)
    if form == "pdf" and longest > 72 * _PDF_INCHES:
        return f"size={_PDF_INCHES},{_PDF_INCHES}"
    if form != "png":
        return ""
    dpi = int(min(_PNG_DPI, 72 * _LONGEST / longest, 72 * (_MOST_DOTS / width / height) ** 0.5))
    if dpi < _LEAST_DPI:
        raise RenderError(
            f"a legible PNG of this drawing would have {width:,.0f} x {height:,.0f} dots, and {_LONGEST:,} a "
            f"side or {_MOST_DOTS:,} in all is the most: draw fewer timesteps, or save it as SVG or PDF"
        )
    return f"dpi={dpi}"


def _commands(form: str, option: str) -> list[list[str]]:
    """What can be run here to render, the best first."""
    commands = []
    program = shutil.which("dot") or shutil.which("neato")
    if program is not None:
        commands.append([program, f"-T{form}", *([f"-G{option}"] if option else ())])
    if sys.executable and importlib.util.find_spec("pygraphviz") is not None:
        path = [entry for entry in sys.path if isinstance(entry, str)]
        commands.append([sys.executable, "-c", _LIBRARY, form, option, *path])
    return commands
