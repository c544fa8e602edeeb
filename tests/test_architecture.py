"""The house keeps its order: lower layers never import higher ones, and importing the core imports little."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = CHECKOUT / "tensorgrad"

# From the ground up. Parts in one line stand beside each other and do not import each other.
LAYERS = [
    ["errors"],
    ["tree"],
    ["context", "cotangents"],
    ["graph"],
    ["op", "random", "backward"],
    ["ops"],
    ["tensor"],
    ["recording"],
    ["functional", "transforms"],
    ["nn"],
    ["optim"],
    ["check"],
    ["bptt"],
    ["viz"],
    ["compile"],
    ["io"],
    ["data"],
    ["models"],
    ["cli"],
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# Within `viz` likewise, from what is to be drawn to the drawing.
VIZ_LAYERS = [
    ["model", "steps"],
    ["scopes"],
    ["build", "levels", "picture"],
    ["style"],
    ["measuring", "place"],
    ["onnx", "painting", "plots", "tables", "writers"],
    ["drawing"],
]
VIZ_LEVEL = {part: level for level, parts in enumerate(VIZ_LAYERS) for part in parts}


def modules() -> dict[str, Path]:
    """Every module of the package by its name; models/ is installed inside it."""
    found = {}
    for root, prefix in ((PACKAGE, "tensorgrad"), (CHECKOUT / "models", "tensorgrad.models")):
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join([prefix, *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return found


MODULES = modules()


class Imports(ast.NodeVisitor):
    """The names of all modules that a source imports, wherever in it, TYPE_CHECKING blocks aside."""

    def __init__(self, name: str, is_package: bool) -> None:
        self.package = name.split(".") if is_package else name.split(".")[:-1]
        self.found: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self.package[: len(self.package) - node.level + 1] if node.level else []
        source = ".".join([*base, *(node.module or "").split(".")]).strip(".")
        for alias in node.names:
            inner = f"{source}.{alias.name}"
            self.found.add(inner if inner in MODULES else source)


def imports_of(name: str, source: str | None = None) -> set[str]:
    path = MODULES[name]
    visitor = Imports(name, path.name == "__init__.py")
    visitor.visit(ast.parse(path.read_text(encoding="utf-8") if source is None else source))
    return visitor.found


def inner_imports(name: str, source: str | None = None) -> set[str]:
    """The modules of this package that a module imports."""
    return {
        other for other in imports_of(name, source) if other.partition(".")[0] in ("tensorgrad", "models")
    }


def part_of(name: str) -> str:
    return name.split(".")[1]


def violations(name: str, source: str | None = None) -> list[str]:
    mine = part_of(name)
    found = []
    for other in sorted(inner_imports(name, source)):
        if other == "tensorgrad":
            # The top of the package imports everything, so only the command line may stand on it.
            if mine not in ("cli", "models"):
                found.append(f"{name} imports the top of the package")
        elif other.partition(".")[0] == "models":
            found.append(f"{name} imports {other}: once installed it is tensorgrad.{other}")
        elif part_of(other) != mine and LEVEL[part_of(other)] >= LEVEL[mine]:
            found.append(f"{name} imports {other}, which stands above it")
    return found


INNER = sorted(name for name in MODULES if name not in ("tensorgrad", "tensorgrad.__main__"))


def test_every_part_has_its_place() -> None:
    assert {part_of(name) for name in INNER} <= set(LEVEL)
    assert {"errors", "tree", "graph", "op", "random", "ops", "tensor", "nn"} <= {
        part_of(name) for name in INNER
    }


@pytest.mark.parametrize("name", INNER)
def test_lower_layers_do_not_import_higher_ones(name: str) -> None:
    assert violations(name) == []


def viz_violations(name: str, source: str | None = None) -> list[str]:
    """The imports of a module of `viz` from a part that does not stand below its own."""
    mine = name.split(".")[2]
    inner = sorted(other for other in inner_imports(name, source) if other.startswith("tensorgrad.viz"))
    found = [f"{name} imports the top of viz" for other in inner if other == "tensorgrad.viz"]
    for other in inner:
        part = other.split(".")[2] if other != "tensorgrad.viz" else mine
        if part != mine and VIZ_LEVEL[part] >= VIZ_LEVEL[mine]:
            found.append(f"{name} imports {other}, which does not stand below it")
    return found


VIZ = sorted(name for name in MODULES if name.startswith("tensorgrad.viz."))


def test_every_part_of_viz_has_its_place() -> None:
    assert {name.split(".")[2] for name in VIZ} == set(VIZ_LEVEL)


@pytest.mark.parametrize("name", VIZ)
def test_within_viz_lower_layers_do_not_import_higher_ones(name: str) -> None:
    assert viz_violations(name) == []


@pytest.mark.parametrize(
    ("name", "source", "caught"),
    [
        ("tensorgrad.viz.place.scene", "from tensorgrad.viz.measuring.measures import Measures", True),
        ("tensorgrad.viz.style.text", "from tensorgrad.viz import levels, place", True),
        ("tensorgrad.viz.writers.svg", "from ..painting import paint", True),
        ("tensorgrad.viz.model", "from tensorgrad.viz.build import build", True),
        ("tensorgrad.viz.place.scene", "from tensorgrad.viz import draw", True),
        ("tensorgrad.viz.writers.svg", "from .render import render", False),
        ("tensorgrad.viz.writers.svg", "from tensorgrad.viz import picture", False),
        ("tensorgrad.viz.drawing", "def f():\n    from tensorgrad.viz.writers.html import to_html", False),
    ],
)
def test_planted_imports_within_viz_are_caught(name: str, source: str, caught: bool) -> None:
    assert bool(viz_violations(name, source)) == caught


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; none if there are none."""
    graph = {name: others - {name, "tensorgrad"} for name, others in imports.items()}
    for name, others in graph.items():
        # A package is loaded by its __init__, which may import its own parts.
        graph[name] = {other for other in others if not name.startswith(f"{other}.")}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_modules_import_each_other_in_no_circle() -> None:
    imports = {name: inner_imports(name) for name in INNER}
    assert circle(imports) == []
    # Nothing is found in nothing: the imports have been read, and one the other way would be seen.
    assert "tensorgrad.graph" in imports["tensorgrad.tensor"]
    imports["tensorgrad.graph"].add("tensorgrad.tensor")
    assert {"tensorgrad.graph", "tensorgrad.tensor"} <= set(circle(imports))


def test_operations_do_not_know_the_tensor() -> None:
    for name in INNER:
        if part_of(name) in ("graph", "op", "ops", "random"):
            assert "tensorgrad.tensor" not in inner_imports(name)


@pytest.mark.parametrize(
    ("name", "source", "caught"),
    [
        ("tensorgrad.ops.reduce", "from tensorgrad.tensor import Tensor", True),
        ("tensorgrad.ops.reduce", "from tensorgrad import tensor", True),
        ("tensorgrad.ops.reduce", "from ..tensor import Tensor", True),
        ("tensorgrad.ops.reduce", "from .. import nn", True),
        ("tensorgrad.ops.reduce", "import tensorgrad", True),
        ("tensorgrad.ops.reduce", "import tensorgrad.nn.layers as layers", True),
        ("tensorgrad.ops.reduce", "def f():\n    from tensorgrad.nn import layers", True),
        (
            "tensorgrad.ops.reduce",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tensorgrad.nn",
            False,
        ),
        ("tensorgrad.ops.reduce", "if x:\n    pass\nelse:\n    import tensorgrad.nn", True),
        ("tensorgrad.ops.reduce", "from tensorgrad.ops.shape import reshape", False),
        ("tensorgrad.ops.reduce", "from .shape import reshape", False),
        ("tensorgrad.ops", "from .shape import reshape", False),
        ("tensorgrad.ops", "from ..tensor import Tensor", True),
        ("tensorgrad.op", "from tensorgrad.random import draw", True),
        ("tensorgrad.graph", "from .op import Op", True),
        ("tensorgrad.tensor", "from tensorgrad import ops", False),
        ("tensorgrad.nn.cells", "from models import micro_rnn", True),
        ("tensorgrad.nn.cells", "from tensorgrad.models import micro_rnn", True),
    ],
)
def test_planted_imports_are_caught(name: str, source: str, caught: bool) -> None:
    assert bool(violations(name, source)) == caught


# --- what importing costs --------------------------------------------------------------------------------
@functools.cache
def loaded_by(statement: str) -> set[str]:
    """The top-level names of modules that a statement loads in a fresh interpreter."""
    code = (
        "import sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT
    )
    return set(run.stdout.split())


def foreign(statement: str) -> Iterator[str]:
    """What a statement loads besides this package, the standard library, and NumPy with what it loads."""
    mine = set(sys.stdlib_module_names) | loaded_by("import numpy.random") | {"tensorgrad"}
    return (name for name in loaded_by(statement) if name not in mine)


def test_importing_the_package_imports_numpy_and_nothing_else() -> None:
    assert sorted(foreign("import tensorgrad")) == []


@pytest.mark.parametrize("name", ["nn", "optim", "bptt", "data", "viz"])
def test_neither_do_the_parts_that_need_no_more(name: str) -> None:
    assert sorted(foreign(f"import tensorgrad.{name}")) == []


def test_heavy_parts_of_the_standard_library_stay_out() -> None:
    """They would be a good part of the time that importing takes."""
    assert loaded_by("import tensorgrad") & {
        "asyncio",
        "unittest",
        "doctest",
        "multiprocessing",
        "sqlite3",
        "http",
    } <= loaded_by("import numpy.random")
