"""Pictures made by hand, for the tests of the writers."""

from __future__ import annotations

from typing import Any, get_args

from tensorgrad.viz.model import Arrow, Box, Frame, Kind, Model
from tensorgrad.viz.picture import Look, Mark, Outline, Patch, Picture, Placed, Stroke, Text, Wire
from tensorgrad.viz.style.text import lines_of, size_of


def placed(box: Box, x: float, y: float) -> Placed:
    """A box about its middle."""
    lines = lines_of(box)
    width, height = size_of(lines)
    return Placed(box, x - width / 2, y - height / 2, width, height, lines)


def small(
    name: str = "h", title: str = "t=0", label: str = "", mark: str = "mark", hint: str = ""
) -> Picture:
    """One operation in a frame, fed by a parameter, with texts of any sort in it.

    Args:
        name, title, label, mark, hint: of the operation, the frame, the arrow, a text that stands alone and
            a look.
    """
    parameter = Box("W", "parameter", "W", "", "(3, 3)", "float64", "", "W")
    result = Box("t0.h", "state", name, "tanh", "(1, 3)", "float64", "t0", "h", (f"note {name}",))
    frame = Frame("t0", title, "", 0)
    points = ((90.0, 100.0), (150.0, 100.0), (150.0, 80.0), (200.0, 80.0))
    return Picture(
        Model((parameter, result), (Arrow("W", "t0.h"),), (frame,)),
        600.0,
        200.0,
        (placed(parameter, 50.0, 100.0), placed(result, 380.0, 80.0)),
        (Outline(frame, 180.0, 20.0, 400.0, 140.0, title),),
        (Wire("edge", "W", "t0.h", points, label=label),),
        ((0, 180.0, 580.0),),
        {"t0.h": Look(hint=hint), 0: Look(hint=hint)} if hint else {},
        (Text(180.0, 190.0, mark),),
    )


def everything() -> Picture:
    """Every kind of box, wire, look and mark, in frames within a frame."""
    outer = Frame("l0", "layer 0", "", None)
    frames = [outer, *(Frame(f"l0.t{t}", f"t={t}", "l0", t) for t in range(3))]
    frames[3] = Frame("l0.t2", "t=2 … 9", "l0", 2, 9)
    outlines = [Outline(outer, 110.0, 10.0, 640.0, 640.0, "layer 0")]
    outlines += [
        Outline(frame, 130.0 + 200 * t, 40.0, 180.0, 590.0, frame.title) for t, frame in enumerate(frames[1:])
    ]
    boxes = [placed(Box("W", "parameter", "W_hh", "", "(3, 3)", "float64", "", "W"), 50.0, 100.0)]
    for t in range(3):
        for row, kind in enumerate(get_args(Kind)[1:]):
            name = f"{kind} {t}" if row % 2 else ""
            box = Box(
                f"l0.t{t}.{kind}",
                kind,
                name,
                "tanh" if row > 1 else "",
                "(1, 3)",
                "float64",
                f"l0.t{t}",
                kind,
            )
            boxes.append(placed(box, 220.0 + 200 * t, 590.0 - 75 * row))

    def joined(kind: Any, tail: str, head: str, *points: tuple[float, float], **more: Any) -> Wire:
        return Wire(kind, tail, head, points, **more)

    wires = [
        joined(
            "edge", f"l0.t{t}.operation", f"l0.t{t}.state", (220.0 + 200 * t, 422.0), (220.0 + 200 * t, 386.0)
        )
        for t in range(3)
    ]
    wires += [
        joined("carried", "l0.t0.state", "l0.t1.state", (260.0, 365.0), (380.0, 365.0)),
        joined(
            *("skip", "l0.t0.state", "l0.t2.state"),
            *((260.0, 355.0), (300.0, 355.0), (300.0, 328.0), (540.0, 328.0), (540.0, 355.0), (580.0, 355.0)),
            label="skips 2",
        ),
        joined(
            *("loop", "l0.t2.cell", "l0.t2.cell"),
            *((660.0, 215.0), (690.0, 215.0), (690.0, 252.0), (620.0, 252.0), (620.0, 238.0)),
            label="× 8",
        ),
        joined("rail", "W", "", (50.0, 118.0), (50.0, 465.0), (740.0, 465.0), arrow=False, hue=1),
        *(
            joined(
                *("tap", "W", f"l0.t{t}.operation"),
                *((150.0 + 200 * t, 465.0), (150.0 + 200 * t, 440.0), (186.0 + 200 * t, 440.0)),
                hue=1,
            )
            for t in range(3)
        ),
        joined("gather", "", "l0.t2.output", (220.0, 30.0), (720.0, 30.0), (720.0, 140.0), (660.0, 140.0)),
        joined("tap", "l0.t0.output", "l0.t2.output", (220.0, 120.0), (220.0, 30.0), arrow=False),
        joined("tap", "l0.t1.output", "l0.t2.output", (420.0, 120.0), (420.0, 30.0), arrow=False),
    ]
    looks: dict[str | int, Look] = {
        "l0.t0.state": Look(fill="#35318F", hint="norm 0.3"),
        "l0.t1.state": Look(fill="#F5AE35", line="#C63A7A", width=3.0, pattern="dashed"),
        "l0.t1.cell": Look(pattern="hatched", hint="NaN"),
        "l0.t1.input": Look(pattern="dotted"),
        0: Look(line="#EC6A3C", width=4.0, hint="norm 3"),
        1: Look(pattern="dashed"),
        2: Look(line="#35318F", pattern="dotted"),
    }
    marks: tuple[Mark, ...] = (
        *(Patch(130.0 + 25 * t, 670.0, 25.0, 18.0, f"#{8 * t:02X}3080", hint=f"t={t}") for t in range(10)),
        Patch(390.0, 670.0, 25.0, 18.0, "#FFFFFF", "#5A6270", "hatched"),
        Text(122.0, 683.0, "norm of dL/dh", 10.0, "end"),
        Text(430.0, 683.0, "bold", 14.0, "middle", True, "#1F2328"),
        Stroke(((130.0, 695.0), (380.0, 695.0)), "#5A6270"),
        Stroke(((130.0, 700.0), (200.0, 700.0), (200.0, 710.0)), "#C63A7A", 2.0, "dashed"),
    )
    arrows = tuple(Arrow(wire.tail, wire.head) for wire in wires if wire.tail and wire.head)
    return Picture(
        Model(tuple(place.box for place in boxes), arrows, tuple(frames)),
        *(770.0, 720.0),
        tuple(boxes),
        tuple(outlines),
        tuple(wires),
        tuple((t, 130.0 + 200 * t, 310.0 + 200 * t) for t in range(3)),
        looks,
        marks,
    )
