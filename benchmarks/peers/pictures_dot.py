"""Graphviz's programs for peers that start them, made of the library that the wheels of pygraphviz carry.

    python pictures_dot.py PROGRAM [-KLAYOUT] [-n[1|2]] [-TFORMAT] [-oFILE | -O] [FILE]

The file or the standard input is laid out and written as `dot` or `neato` would. With ``-n`` the positions in
the text are kept, with ``-n2`` the edges' as well.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from pathlib import Path

PROGRAMS = ("dot", "neato")


def provide(folder: Path) -> str | None:
    """Write the programs into a folder; None where the real ones are installed and nothing is needed.

    Returns:
        The folder, to be put before all others on the ``PATH``.
    """
    if all(shutil.which(program) for program in PROGRAMS):
        return None
    for program in PROGRAMS:
        command = shlex.join([sys.executable, str(Path(__file__).resolve()), program])
        script = folder / program
        script.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return str(folder)


def main(program: str, arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("-K", dest="layout")
    parser.add_argument("-n", dest="placed", nargs="?", const="1")
    parser.add_argument("-T", dest="form", default="dot")
    parser.add_argument("-o", dest="output", type=Path)
    parser.add_argument("-O", dest="beside", action="store_true")
    parser.add_argument("file", nargs="?", type=Path)
    asked = parser.parse_args(arguments)

    import pygraphviz.graphviz

    # As for tensorgrad: freeing takes long where there are many clusters, and the process ends here anyway.
    pygraphviz.graphviz.gvFreeLayout = lambda *_: None
    text = asked.file.read_text(encoding="utf-8") if asked.file else sys.stdin.buffer.read().decode()
    layout = f"nop{asked.placed}" if asked.placed else asked.layout or program
    picture = pygraphviz.AGraph(string=text).draw(format=asked.form, prog=layout)
    output = Path(f"{asked.file}.{asked.form}") if asked.beside else asked.output
    if output is None:
        sys.stdout.buffer.write(picture)
    else:
        output.write_bytes(picture)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
