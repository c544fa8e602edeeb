"""What a notebook shows of Tensors and Modules: the facts, what is not finite, and never more than fits."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.viz.style.text import shortened, shown


class Page(HTMLParser):
    """A piece of HTML: its tags, what is between them, and whether they close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.add(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page(x: Any) -> Page:
    return Page(x._repr_html_())


def text(x: Any) -> str:
    return "".join(page(x).words)


# --- facts -----------------------------------------------------------------------------------------------
def test_the_facts_of_a_tensor():
    with tg.scope("encoder"):
        h = tg.label(tg.tanh(tg.tensor([[1.0, -2.0]], requires_grad=True)), "h")
    assert "h Tensor, shape (1, 2), float64, op tanh, scope encoder, requires a gradient" in text(h)
    assert "from -0.964 to 0.7616, mean -0.1012, norm 1.229" in text(h)
    assert "Parameter, shape (2,)" in text(nn.Parameter([1.0, 2.0], name="b"))


def test_what_is_said_of_the_gradient():
    x = tg.tensor([3.0, 4.0], requires_grad=True)
    y, kept = x * 1, (x * 2).retain_grad()
    assert "requires no gradient" in text(tg.tensor([1.0]))
    assert "gradient: none yet" in text(x)
    assert "gradient: not kept; call retain_grad()" in text(y)
    assert "gradient: none yet" in text(kept)
    (kept * kept * 0.5).sum().backward()
    assert "gradient: from 12 to 16, mean 14, norm 20" in text(x)
    assert "gradient: from 6 to 8, mean 7, norm 10" in text(kept)


def test_a_gradient_that_is_not_finite_is_seen():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    (x * 1).backward(np.array([np.nan, 1.0]))
    assert "gradient: from 1 to 1, mean 1, norm 1, 1 NaN" in text(x)


def test_a_small_tensor_shows_its_numbers():
    x = tg.tensor([[0.5, -1.25, 0.0], [np.nan, np.inf, -np.inf]])
    html = x._repr_html_()
    cells = re.findall(r"<td class=\"([^\"]*)\"([^>]*)>([^<]*)", html)
    assert [cell[2] for cell in cells] == ["0.5", "-1.25", "0", "nan", "inf", "-inf"]
    assert ["tg-bad" in cell[0] for cell in cells] == [False] * 3 + [True] * 3
    above, below, zero = (cell[1] for cell in cells[:3])
    assert above.partition("#")[2][:6] != below.partition("#")[2][:6]
    assert zero == ""
    assert "1 NaN, 2 infinite" in text(x)


@pytest.mark.parametrize(
    ("data", "shown_as"),
    [
        (3.0, "3"),
        ([True, False], "True"),
        ([7, 8], "8"),
        ([1 + 2j], "1+2j"),
        (np.zeros((0, 3)), "values: none"),
        ([np.nan], "no finite one, 1 NaN"),
        ([1e308, -1e308], "1e+308"),
        ([5e-324], "4.941e-324"),
        ([np.iinfo(np.int64).min, 0], "-9223372036854775808"),
        (np.array([1.0, 2.0], np.float16), "float16"),
        (np.zeros(4), "norm 0"),
        (np.full((40, 40), 1e308), "norm"),
        (np.array([1.7e308, -1.7e308, np.nan, np.inf] * 5), "5 NaN, 5 infinite"),
    ],
)
def test_values_of_every_kind(data, shown_as):
    assert shown_as in text(tg.tensor(data))


# --- heat maps -------------------------------------------------------------------------------------------
def cells_of(html: str, colour: str) -> set[tuple[int, int]]:
    """Where a colour has its cells, as (row, column)."""
    paths = re.findall(rf'<path fill="{colour}"[^>]* d="([^"]*)"', html)
    return {(int(y), int(x)) for path in paths for x, y in re.findall(r"M(\d+) (\d+)h", path)}


def colours() -> tuple[str, str, str]:
    from tensorgrad.viz.tables.notebook import _ABOVE, _BELOW, _NAN

    return _ABOVE, _BELOW, _NAN


def test_a_heat_map_has_its_colours_where_the_numbers_are():
    above, below, nan = colours()
    array = np.zeros((20, 30))
    array[3, 4], array[10, 11], array[7, 0], array[0, 29] = 2.0, -2.0, np.nan, -np.inf
    html = tg.tensor(array)._repr_html_()
    assert cells_of(html, above) == {(3, 4)}
    assert cells_of(html, below) == {(10, 11)}
    assert cells_of(html, nan) == {(7, 0)}
    assert cells_of(html, "currentColor") == {(0, 29)}
    assert {"NaN, crossed", "infinite"} <= set(Page(html).words)
    assert "20 rows of 30 numbers" in text(tg.tensor(array))


def test_a_heat_map_of_zeros_has_no_colours():
    words = text(tg.tensor(np.zeros((20, 30))))
    assert "20 rows of 30 numbers" in words
    assert "above 0" not in words


def test_one_nan_in_a_million_is_seen():
    array = np.ones((1000, 1000))
    array[123, 456] = np.nan
    html = tg.tensor(array)._repr_html_()
    assert len(cells_of(html, colours()[2])) == 1
    assert "1 NaN" in "".join(Page(html).words)
    assert "infinite" not in html
    assert "in 32 x 32 cells, each the mean" in html


@pytest.mark.parametrize(
    "shape", [(1000, 1000), (100_000,), (100_000, 1), (1, 100_000), (50, 20, 30), (3, 0, 4), (13,), (2,) * 16]
)
def test_no_tensor_is_too_large_to_be_shown(shape):
    x = tg.tensor(np.random.default_rng(0).standard_normal(shape), name="n" * 10_000)
    assert len(x._repr_html_()) < 40_000
    assert page(x).tags <= {"div", "style", "p", "b", "i", "span", "svg", "path", "table", "tr", "td"}


def test_rows_of_many_axes_are_told():
    assert "80 rows (20 x 4) of 32 numbers" in text(tg.tensor(np.ones((20, 4, 32))))


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=15)))
@settings(max_examples=60, deadline=None)
def test_any_array_is_shown_without_a_warning(array):
    words = text(tg.tensor(array))
    nan, inf = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    assert (f"{nan:,} NaN" in words) == (nan > 0)
    assert (f"{inf:,} infinite" in words) == (inf > 0)


# --- text stays text -------------------------------------------------------------------------------------
@given(st.text(min_size=1, max_size=60), st.text(max_size=20))
@settings(max_examples=60, deadline=None)
def test_any_name_comes_out_as_text(name, scope):
    with tg.scope(scope):
        x = tg.label(tg.tensor([1.0], requires_grad=True) * 2, name)
    found = page(x)
    assert found.tags <= {"div", "style", "p", "b", "table", "tr", "td"}
    assert shown(shortened(name, 40)) in "".join(found.words)
    x._repr_html_().encode()


def test_a_script_is_no_script():
    with tg.scope("<img src=x>"):
        x = tg.tensor([1.0], name="<script>alert(1)</script>")
    assert not {"script", "img"} & page(x).tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in x._repr_html_()


# --- modules ---------------------------------------------------------------------------------------------
def test_a_module_shows_its_parameters():
    html = nn.LSTM(3, 4, num_layers=2, seed=0)._repr_html_()
    assert html == tg.viz.summary(nn.LSTM(3, 4, num_layers=2, seed=0))._repr_html_()
    words = Page(html).words
    assert {"LSTM(3, 4, num_layers=2)", "weight_hh_l1", "(16, 4)", "LSTMCell"} <= set(words)


def test_a_module_may_show_itself_in_its_own_way():
    class Own(nn.Module):
        def _repr_html_(self) -> str:
            return "own"

    assert Own()._repr_html_() == "own"
