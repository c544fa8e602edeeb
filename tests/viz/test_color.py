"""The scale of colours: even, ordered, the same for every colour vision; and numbers in few letters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorgrad.viz.style.color import SPECIAL, LogScale, kind_of, oklab, shade, short
from tensorgrad.viz.style.palette import DARK, PAPER, ink_on

RAMP = [shade(k / 255) for k in range(256)]
# What dichromats see, in linear sRGB: Machado, Oliveira, Fernandes, "A Physiologically-based Model for
# Simulation of Color Vision Deficiency" (2009), table of severity 1.
SEEN = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(color: str) -> np.ndarray:
    coded = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def seen(color: str, how: str) -> str:
    light = (np.array(SEEN[how]) @ linear(color)).clip(0, 1)
    coded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * part):02X}" for part in coded.tolist())


def contrast(a: str, b: str) -> float:
    low, high = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) for color in (a, b))
    return (high + 0.05) / (low + 0.05)


def test_oklab_of_known_colours() -> None:
    np.testing.assert_allclose(oklab("#FFFFFF"), [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(oklab("#000000"), [0, 0, 0], atol=1e-3)
    # As Ottosson's page has red.
    np.testing.assert_allclose(oklab("#FF0000"), [0.628, 0.225, 0.126], atol=1e-3)


def test_lightness_rises_and_steps_are_even() -> None:
    # Every eighth, for one step of 256 is no more than the rounding of a colour to whole numbers.
    line = np.array([oklab(color) for color in RAMP[::8]])
    assert (np.diff(line[:, 0]) > 0).all()
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    assert steps.max() / steps.min() < 1.25


@pytest.mark.parametrize("how", SEEN)
def test_the_order_is_seen_with_any_colour_vision(how: str) -> None:
    line = np.array([oklab(seen(color, how)) for color in RAMP[::15]])
    assert (np.diff(line[:, 0]) > 0).all()
    assert np.linalg.norm(np.diff(line, axis=0), axis=1).min() > 0.011


def test_the_scale_is_seen_on_light_and_on_dark_paper() -> None:
    assert min(contrast(color, PAPER) for color in RAMP) > 1.6
    assert min(contrast(color, DARK[PAPER]) for color in RAMP) > 1.6
    # And the text in a box of its colour.
    assert min(contrast(color, ink_on(color)) for color in RAMP) > 4.1


def test_what_is_no_number_looks_like_nothing_on_the_scale() -> None:
    line = np.array([oklab(color) for color in RAMP])
    for special in SPECIAL.values():
        assert np.linalg.norm(line - oklab(special.color), axis=1).min() > 0.1
    for a, b in itertools.combinations(SPECIAL.values(), 2):
        assert np.linalg.norm(oklab(a.color) - oklab(b.color)) > 0.1
        # Without colour too; and a solid line is that of infinity, which is thicker than any other.
        assert a.pattern != b.pattern
    assert [kind for kind, special in SPECIAL.items() if special.pattern == "solid"] == ["infinite"]


def test_kinds() -> None:
    numbers = [0.1, 0.0, -0.0, 5e-324, None, math.nan, math.inf]
    kinds = ["number", "zero", "zero", "number", "unknown", "nan", "infinite"]
    assert [kind_of(x) for x in numbers] == kinds


positive = st.floats(1e-300, 1e300)


@given(st.lists(positive, min_size=1), st.lists(st.sampled_from([0.0, math.nan, math.inf, -1.0])))
def test_a_scale_holds_its_numbers(numbers: list[float], others: list[float]) -> None:
    scale = LogScale.of([*numbers, *others])
    assert scale is not None
    assert 1 <= scale.high - scale.low <= 16
    places = [scale.place(x) for x in sorted(numbers)]
    assert all(0 <= place <= 1 for place in places)
    assert places == sorted(places)
    # The greatest is near the upper end, and what is cut off is said to be.
    assert math.log10(max(numbers)) <= scale.high + 1e-6
    assert scale.place(max(numbers)) >= 1 - 1.01 / (scale.high - scale.low)
    assert scale.cut == (math.floor(math.log10(min(numbers)) + 1e-9) < scale.low)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 6
    assert ticks[0] == (1.0, f"1e{scale.high}")
    for place, text in ticks[scale.high > 300 :]:
        assert place == pytest.approx(scale.place(float(text)))


def test_a_scale_for_nothing() -> None:
    assert LogScale.of([]) is None
    assert LogScale.of([0.0, math.nan, math.inf]) is None


def test_powers_of_ten_are_ends() -> None:
    assert LogScale.of([1e-3, 1e3]) == LogScale(-3, 3)
    assert LogScale.of([1.0]) == LogScale(0, 1)


@given(st.lists(positive))
def test_a_scale_of_factors_has_one_in_its_middle(numbers: list[float]) -> None:
    scale = LogScale.about_one([*numbers, math.inf, math.nan])
    assert scale.place(1.0) == 0.5
    assert scale.place(2.0) > 0.5 > scale.place(0.5)
    assert all((scale.place(x) > 0.5) == (math.log10(x) > 0) for x in numbers if abs(math.log10(x)) > 1e-9)


@given(st.one_of(positive, positive.map(lambda x: -x), st.just(0.0)))
def test_short_numbers_are_right_and_short(x: float) -> None:
    text = short(x)
    assert len(text) <= 9
    assert float(text) == pytest.approx(x, rel=0.051)
    assert (float(text) == 0) == (x == 0)
