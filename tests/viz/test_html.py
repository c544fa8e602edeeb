"""The page as a file: what it may load and run, what it says about the graph, and that labels stay text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.viz import levels
from tensorgrad.viz.build import build
from tensorgrad.viz.measuring.along import NOT_ON_RECORD
from tensorgrad.viz.measuring.measure import measure
from tensorgrad.viz.measuring.measures import Measures, Numbers, Strip
from tensorgrad.viz.measuring.thumbs import Thumbs, thumbnails
from tensorgrad.viz.model import Model
from tensorgrad.viz.picture import Picture
from tensorgrad.viz.place import place
from tensorgrad.viz.writers import html
from tensorgrad.viz.writers.html import to_html
from tensorgrad.viz.writers.page_data import _number

from .conftest import GRAPHS, Case, char_rnn

PARTS = Path(html.__file__).parent / "page"
NOTHING = Thumbs({}, {})
SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def models_of(case: Case) -> dict[str, Model]:
    whole = build(case.output, case.unrolled)
    return {"op": whole, "cell": levels.cells(whole), "rolled": levels.rolled(whole)}


def page_of(case: Case, compare: Any = None, **options: Any) -> str:
    """All of a graph on a page; `compare` is what `bptt.compare` returned."""
    models = models_of(case)
    groups = {a.shares for model in models.values() for a in model.arrows if len(a.shares) > 1}
    cells = [box for box in models["cell"].boxes if box.kind == "cell"]
    wanted: dict[str, Any] = {"values": True, "backward": True, "compare": compare}
    found = measure(models["op"], case.output, case.unrolled, groups=groups, boxes=cells, **wanted)
    options = {
        "title": "a page",
        "level": "op",
        "thumbs": thumbnails(case.output, models.values()),
        **options,
    }
    return to_html({name: place(model) for name, model in models.items()}, found, **options)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.within = ""
        self.title = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.within = tag
        if tag in ("script", "style"):
            self.texts.append((tag, ""))

    def handle_data(self, data: str) -> None:
        if self.within in ("script", "style"):
            tag, before = self.texts[-1]
            self.texts[-1] = tag, before + data
        if self.within == "title":
            self.title += data

    def handle_endtag(self, tag: str) -> None:
        self.within = ""


def data_of(text: str) -> dict[str, Any]:
    elements = Elements(text)
    [data] = [t for tag, t in elements.texts if tag == "script" and t.startswith("{")]
    found: dict[str, Any] = json.loads(data)
    return found


def hash_of(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def number(x: Any) -> Any:
    return SPECIAL.get(x, x) if isinstance(x, str) else x


@pytest.fixture(scope="module")
def rnn() -> str:
    return page_of(char_rnn(3))


# --- one file that loads nothing ---------------------------------------------------------------------------
def test_nothing_is_loaded(rnn: str) -> None:
    elements = Elements(rnn)
    for tag, attributes in elements.found:
        assert tag not in ("link", "iframe", "object", "embed", "img", "base"), tag
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    # The name of SVG is no address that anybody asks.
    assert set(re.findall(r"https?://[^\s'\"<>)]+", rnn)) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in rnn
    assert "@import" not in rnn


def test_the_policy_allows_the_one_script_and_the_one_style(rnn: str) -> None:
    elements = Elements(rnn)
    [policy] = [
        a["content"] or "" for _, a in elements.found if a.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = {name: sources for name, *sources in (rule.split() for rule in policy.split(";"))}
    assert rules["default-src"] == ["'none'"]
    assert rules["img-src"] == ["data:"]
    [style] = [text for tag, text in elements.texts if tag == "style"]
    _, script = [text for tag, text in elements.texts if tag == "script"]
    assert rules["style-src"] == [f"'{hash_of(style)}'"]
    assert rules["script-src"] == [f"'{hash_of(script)}'"]
    # The policy forbids them, and so they would do nothing.
    assert not any(name == "style" or name.startswith("on") for _, a in elements.found for name in a)


def test_no_text_can_become_markup() -> None:
    for part in PARTS.glob("*.js"):
        source = part.read_text(encoding="utf-8")
        for way in (
            *("innerHTML", "outerHTML", "insertAdjacent", "document.write", "DOMParser", "createContextual"),
            *("eval(", "new Function", "setAttribute('style'", "srcdoc", "javascript:"),
        ):
            assert way not in source, (part.name, way)


def test_every_file_of_the_page_is_in_it(rnn: str) -> None:
    files = {part.name for part in PARTS.iterdir() if part.is_file()}
    assert files == {"page.html", "page.css", *(f"{name}.js" for name in html._CHAPTERS)}
    for part in PARTS.glob("*.js"):
        source = part.read_text(encoding="utf-8")
        assert source in rnn
        assert source.count("\n") < 400, part.name


def test_the_script_has_no_faults(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed: the page's script is checked by the browser alone")
    path = tmp_path / "page.js"
    path.write_text(html._script(), encoding="utf-8")
    done = subprocess.run([node, "--check", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_one_global(rnn: str) -> None:
    assert set(re.findall(r"\b(?:window|globalThis)\.(\w+) = ", rnn)) == {"tensorgradPage"}


# --- colours -----------------------------------------------------------------------------------------------
def variables(theme: str) -> dict[str, str]:
    """The colours of a theme as the style sheet defines them."""
    found: dict[str, str] = {}
    for selector, body in re.findall(r"(:root[^{]*)\{([^}]*)\}", html._style()):
        if selector.strip() == ":root" or theme in selector:
            found.update(re.findall(r"--([\w-]+):\s*([^;]+);", body))
    return {
        name: found.get(re.sub(r"var\(--([\w-]+)\)", r"\1", value), value) for name, value in found.items()
    }


def contrast(a: str, b: str) -> float:
    """That of the Web Content Accessibility Guidelines 2.2."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out(theme: str) -> None:
    colors = variables(theme)
    texts = [(ink, on) for ink in ("ink", "soft", "wrong", "value") for on in ("paper", "panel", "frame")]
    texts += [("ink", "button"), ("paper", "ink"), ("paper", "wrong"), ("accent", "paper")]
    texts += [("ink", name) for name in colors if name.startswith("fill-")]
    texts += [("soft", name) for name in colors if name.startswith("fill-")]
    for ink, on in texts:
        assert contrast(colors[ink], colors[on]) >= 4.5, (ink, on)
    for line in ("value", "gradient", "error", "accent"):
        assert contrast(colors[line], colors["panel"]) >= 3, line


def test_every_colour_has_a_value() -> None:
    style = html._style()
    used = set(re.findall(r"var\(--([\w-]+)\)", style))
    assert used <= set(variables("light"))
    # Of the colours of the picture every one is defined for either theme.
    assert set(variables("light")) == set(variables("dark"))


# --- what is said about the graph --------------------------------------------------------------------------
@pytest.mark.parametrize("name", GRAPHS)
def test_boxes_and_wires_come_back(name: str) -> None:
    case = GRAPHS[name](3)
    data = data_of(page_of(case))
    texts, tensors = data["texts"], data["tensors"]

    def id_of(tensor: int) -> str:
        if str(tensor) in tensors["ids"]:
            return str(texts[tensors["ids"][str(tensor)]])
        frame, role = tensors["frame"][tensor], texts[data["sorts"][tensors["sort"][tensor]][5]]
        return role if frame < 0 else f"{texts[data['frames']['id'][frame]]}.{role}"

    for level, model in models_of(case).items():
        picture, found = place(model), data["levels"][level]
        ids = [id_of(tensor) for tensor in found["boxes"]["tensor"]]
        assert ids == [placed.box.id for placed in picture.boxes]
        for i, placed in enumerate(picture.boxes):
            kind, box_name, op, shape, dtype, _ = (
                texts[k] for k in data["sorts"][tensors["sort"][found["boxes"]["tensor"][i]]]
            )
            box = placed.box
            if level != "rolled":
                assert (kind, box_name, op, shape, dtype) == (
                    box.kind,
                    box.name,
                    box.op,
                    box.shape,
                    box.dtype,
                )
            assert found["boxes"]["x"][i] == pytest.approx(placed.x, abs=0.051)
            width, height = found["sizes"][found["boxes"]["size"][i]]
            assert (width, height) == pytest.approx((placed.width, placed.height), abs=0.051)
        check_wires(found, picture, ids)


def check_wires(found: dict[str, Any], picture: Picture, ids: list[str]) -> None:
    for i, wire in enumerate(picture.wires):
        steps = found["courses"][found["wires"]["course"][i]][4:]
        points = [(found["wires"]["x"][i], found["wires"]["y"][i])]
        for dx, dy in zip(steps[::2], steps[1::2], strict=True):
            points.append((points[-1][0] + dx, points[-1][1] + dy))
        # However many corners there are, roundings do not add up.
        assert np.allclose(points, wire.points, atol=0.11)
        ends = [found["wires"][end][i] for end in ("tail", "head")]
        assert [ids[k] if k >= 0 else "" for k in ends] == [wire.tail, wire.head]


def test_numbers_keep_what_matters() -> None:
    case = char_rnn(2)
    model = build(case.output, case.unrolled)
    odd = {
        "t0.h": Numbers(3, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0),
        "t1.h": Numbers(3, 1, 2, -1e-300, 1 / 3, 0.0, 0.0, 4.94e-324),
        "elsewhere": Numbers(1, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0),
    }
    strip = Strip("s", np.array([np.nan, np.inf]), np.array([True, True]))
    unknown = Strip("u", np.array([1.0, 2.0]), np.array([False, True]))
    found = Measures(grads=odd, flows={(0,): np.nan, (1,): 0.0}, strips=(strip, unknown))
    data = data_of(to_html({"op": place(model)}, found, title="", thumbs=NOTHING, level="op"))
    grads = data["grads"]
    # 0 is a number, and what has none is left out.
    assert grads["norm"] == [0, 4.94e-324]
    assert grads["least"] == [0, -1e-300]
    assert grads["greatest"][1] == 0.3333
    assert (grads["nan"], grads["inf"]) == ({"1": 1}, {"1": 2})
    assert data["strips"][0]["values"] == ["NaN", "Infinity"]
    assert data["strips"][1]["values"] == [None, 2]
    assert {"NaN", 0, None} <= set(data["levels"]["op"]["wires"]["flow"])
    assert {"nan", "infinite", "unknown", "zero"} == set(data["scales"]["gradient"]["seen"])


def test_a_rail_carries_all_of_the_gradient() -> None:
    case = char_rnn(4)
    data = data_of(page_of(case))
    op = data["levels"]["op"]
    rails = 0
    for i, course in enumerate(op["wires"]["course"]):
        if data["texts"][op["courses"][course][0]] == "rail":
            tensor = op["boxes"]["tensor"][op["wires"]["tail"][i]]
            norm = data["grads"]["norm"][data["grads"]["at"].index(tensor)]
            assert op["wires"]["flow"][i] == pytest.approx(norm, rel=1e-3)
            rails += 1
    assert rails == 6


def test_thumbnails_come_back() -> None:
    case = char_rnn(2)
    text = page_of(case)
    for which, there in thumbnails(case.output, [build(case.output, case.unrolled)])._asdict().items():
        found = data_of(text)["thumbs"][which]
        raw = base64.b64decode(found["bytes"])
        assert len(raw) == sum(n + found["bins"] for n in found["cells"])
        for thumb in there.values():
            assert thumb.cells + thumb.counts in raw


def test_a_cell_has_the_worst_error_of_its_parts() -> None:
    case = char_rnn(2)
    models = models_of(case)
    found = Measures(errors={"t0.a": 0.5, "t0.h": 0.1, "t1.h": float("nan"), "t1.a": 0.2}, tolerance=1e-9)
    data = data_of(to_html({"cell": place(models["cell"])}, found, title="", thumbs=NOTHING, level="cell"))
    errors = {
        data["texts"][data["frames"]["id"][data["tensors"]["frame"][tensor]]]: value
        for tensor, value in zip(data["errors"]["at"], data["errors"]["value"], strict=True)
    }
    assert errors == {"t0": 0.5, "t1": "NaN"}


@pytest.mark.parametrize("wrong", [0, 4, 8])
def test_one_timestep_for_all_has_the_worst_error_of_all(wrong: int) -> None:
    case = char_rnn(9)
    given = np.stack(tg.grad(case.output, [step["h"] for step in case.unrolled.steps]))
    given[wrong] *= 1.25
    report = tg.bptt.compare(case.output, {"h": given}, unrolled=case.unrolled)
    whole = build(case.output, case.unrolled)
    for model in (levels.rolled(whole), levels.rolled(levels.cells(whole))):
        found = replace(measure(whole, case.output, case.unrolled, compare=report), strips=())
        picture = place(model)
        data = data_of(to_html({"rolled": picture}, found, title="", thumbs=NOTHING, level="rolled"))
        worst = dict(
            zip((placed.box.role for placed in picture.boxes), data["levels"]["rolled"]["worst"], strict=True)
        )
        assert worst.pop("h" if "h" in worst else "cell") == [0.25, wrong]
        assert set(worst.values()) == {None}
        # And the scale has room for it, though the box of that timestep is not on the page.
        assert 10 ** data["scales"]["error"]["high"] >= 0.25
        first = data["levels"]["rolled"]["first"]
        assert picture.boxes[first].box.role in ("h", "cell")
    # Where every timestep is drawn each has its own.
    text = to_html({"op": place(whole)}, found, title="", thumbs=NOTHING, level="op")
    assert data_of(text)["levels"]["op"]["worst"] is None


def test_what_is_inside_a_checkpoint_is_marked() -> None:
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((6, 1, 2)), checkpoint=2)
    text = page_of(Case(tg.sum(roll.outputs), roll))
    found = data_of(text)["levels"]["op"]["wires"]
    picture = place(build(tg.sum(roll.outputs), roll))
    heads = [next((p.box.op for p in picture.boxes if p.box.id == wire.head), "") for wire in picture.wires]
    inside = [i for i, op in enumerate(heads) if op == "checkpoint"]
    assert found["notOnRecord"] == inside != []
    assert {found["flow"][i] for i in inside} == {None}
    assert data_of(text)["notOnRecord"] == NOT_ON_RECORD
    # What has a number has no need of it, nor has what no gradient reaches.
    assert data_of(page_of(char_rnn(2)))["levels"]["op"]["wires"]["notOnRecord"] == []


def test_the_same_graph_gives_the_same_page() -> None:
    assert page_of(char_rnn(3)) == page_of(char_rnn(3))


def test_any_level_may_be_missing() -> None:
    models = models_of(char_rnn(2))
    for name, model in models.items():
        text = to_html({name: place(model)}, Measures(), title="", thumbs=NOTHING, level="op")
        assert set(data_of(text)["levels"]) == {name}


def test_the_page_of_500_timesteps_is_small() -> None:
    """Every timestep adds as much as any other; so a page of 500 has less than 2.5 MB."""
    small, large = (len(page_of(char_rnn(T)).encode()) for T in (20, 60))
    each = (large - small) / 40
    # Positions and indices get longer with T, by less than a half.
    assert small + 480 * each * 1.5 < 2_500_000


# --- texts of the user's -----------------------------------------------------------------------------------
def drawn(name: str, title: str = "") -> str:
    x = tg.tensor([1.0, 2.0], requires_grad=True, name=name)
    model = build(tg.label(tg.sum(x), name))
    named = replace(model, boxes=tuple(replace(box, notes=(name,)) for box in model.boxes))
    return to_html({"op": place(named)}, Measures(words=(name,)), title=title, thumbs=NOTHING, level="op")


def strings(data: Any) -> Iterable[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from strings(value)


HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "]]> & &lt; \" ' ` $title ${x} \\",
    "line\nend\ttab\r\u2028\u2029\x00\x7f",
    "\u202eabc",
    "\ud800",
    "x" * 10_000,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_labels_stay_text(name: str) -> None:
    text = drawn(name, title=name)
    assert text.encode()
    elements = Elements(text)
    assert [tag for tag, _ in elements.found].count("script") == 2
    assert not any(tag in ("img", "b") for tag, _ in elements.found)
    data = data_of(text)
    assert name in data["texts"]
    assert data["title"] == name
    assert data["words"] == [name]


@given(st.text(st.characters(exclude_categories=()), max_size=50))
def test_any_label_comes_back(name: str) -> None:
    encoded = html._json({"label": name})
    assert encoded.isascii()
    assert not set("<>&") & set(encoded)
    assert json.loads(encoded) == {"label": name}


def test_a_title_is_text() -> None:
    elements = Elements(drawn("x", title="<b>&amp; $script"))
    assert elements.title == "<b>&amp; $script"


@given(st.floats())
def test_numbers_have_four_digits(x: float) -> None:
    found = number(json.loads(json.dumps(_number(x), allow_nan=False)))
    if np.isfinite(x):
        assert found == pytest.approx(x, rel=5.1e-4, abs=5e-324)
        # Nothing that is there becomes nothing.
        assert (found == 0) == (x == 0)
    else:
        assert str(found) == str(x)
