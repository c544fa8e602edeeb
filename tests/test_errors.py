"""Every error is both one of ours and the built-in one that a NumPy user would expect."""

from __future__ import annotations

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import errors

FAMILIES = {
    "ShapeError": ValueError,
    "DtypeError": TypeError,
    "GraphError": RuntimeError,
    "AnomalyError": FloatingPointError,
    "GradientError": AssertionError,
    "CheckpointError": ValueError,
    "UserError": ValueError,
}


def test_families() -> None:
    classes = {name for name in errors.__all__ if name.endswith("Error")} - {"TensorgradError"}
    assert classes == set(FAMILIES)
    for name, builtin in FAMILIES.items():
        kind = getattr(errors, name)
        assert issubclass(kind, errors.TensorgradError)
        assert issubclass(kind, builtin)
        assert getattr(tg, name) is kind


def test_an_index_out_of_range_is_an_index_error_too() -> None:
    with pytest.raises(IndexError, match="out of bounds"):
        tg.tensor([1.0])[1]


def test_describe_shows_shapes_and_values() -> None:
    words = errors.describe([np.zeros((2, 3), np.float32), tg.tensor([1]), 2.5, None, [1, 2]])
    assert words == "(2, 3) float32, (1,) int64, 2.5, None, [1, 2]"


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (ValueError("why"), errors.ShapeError),
        (IndexError("why"), errors.ShapeError),
        (TypeError("why"), errors.DtypeError),
        (OverflowError("why"), errors.DtypeError),
    ],
)
def test_operand_errors_carry_place_operands_and_parameters(cause: Exception, kind: type[Exception]) -> None:
    error = errors.operand_error("sum", [np.zeros(2)], {"axis": 3, "dtype": None}, "t=1", cause)
    assert type(error) is kind
    assert str(error) == "sum in scope 't=1': why. Operands: (2,) float64, axis=3"


def test_the_inner_error_is_not_shown_twice() -> None:
    with pytest.raises(errors.ShapeError) as caught:
        tg.tensor([1.0, 2.0]) + np.ones(3)
    assert caught.value.__suppress_context__


def test_products_that_do_not_fit_are_explained_with_names() -> None:
    W = tg.tensor(np.ones((2, 3)), name="W_hh")
    with pytest.raises(
        tg.ShapeError, match=r"matmul: the rows on the left have 3.*right 2\. Operands: W_hh \(2, 3\)"
    ):
        W @ W
    with pytest.raises(tg.ShapeError, match="linear: x has 2 features, but the weight takes 3"):
        tg.linear(np.ones((4, 2)), W)
