"""One-hot products as lookups: a row of W for one_hot(id) @ W; and the gradient of a lookup.

The gradient of W is a sum over all rows of g with the same id. It is made by a product with one-hot rows, or
with g sorted by id and summed in segments. A product's time grows with V, a sort's hardly: on a two-core
x86-64 machine (float32, one BLAS thread, 25 to 4,096 rows) they met near V = 65 for H = 32, between V = 75
and 400 for H = 128, and between V = 200 and 700 for H = 512 and 2,048, with no trend in the number of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.ir import Eqn, Program
from tensorgrad.compile.passes.rewrite import Rewriter

__all__ = ["lookups", "product_is_faster"]

_FEW_ROWS = 256


def product_is_faster(V: int, H: int) -> bool:
    """Whether a product with one-hot rows is the faster way to sum rows of length H by V ids."""
    return max(64, min(H, _FEW_ROWS)) >= V


def lookups(program: Program) -> None:
    """Turn products with one-hot rows into lookups, and choose how their gradients are summed."""
    _Lookups().run(program)


class _Lookups(Rewriter):
    def equation(self, b: Builder, eqn: Eqn) -> Any:
        rule = _RULES.get(eqn.op)
        return rule(self, b, eqn) if rule is not None else None

    def source(self, x: Any, op: str) -> Eqn | None:
        """The equation of this op whose result x is, in another shape at most."""
        while (made := self.made.get(id(x))) is not None and made.op == "reshape":
            x = made.args[0]
        return made if made is not None and made.op == op else None

    def ids_of(self, x: Any) -> Any:
        """The ids whose one-hot rows x is made of, all known to lie in 0..V-1; or None."""
        made = self.source(x, "one_hot")
        if made is None or x.shape[-1] != made.params["V"] or x.dtype != made.out.dtype:
            return None
        return made.args[0] if self.in_range(made.args[0], made.params["V"]) else None

    def in_range(self, ids: Any, V: int) -> bool:
        """Whether ids are checked to lie in 0..V-1 before they are used."""
        if not np.can_cast(ids.dtype, np.intp):
            return False
        check = self.source(ids, "check_range")
        return check is not None and len(check.args) == 1 and check.params["n"] == V

    # --- forward ---------------------------------------------------------------------------------------
    def dot(self, b: Builder, eqn: Eqn) -> Any:
        x, w = eqn.args
        if x.dtype != w.dtype:
            return None
        turned = self.made.get(id(x))
        if x.ndim == w.ndim == 2 and turned is not None and turned.op == "transpose":
            ids = self.ids_of(turned.args[0])
            return None if ids is None else self.summed(b, ids, w, x.shape[0])
        ids = self.ids_of(x)
        if ids is not None and w.ndim == 2:
            rows = self.rows(b, self.by_row(b, w), ids)
            return b.reshape(rows, eqn.out.shape)
        ids = self.ids_of(w)
        if ids is not None and x.ndim == w.ndim == 2 and turned is not None:
            return self.turned_sum(b, x, ids, w.shape[1])
        return None

    def by_row(self, b: Builder, w: Any) -> Any:
        """w with its rows contiguous."""
        made = self.made.get(id(w))
        if made is None or made.op != "transpose":
            return w
        return b.emit("copy", [w], w.shape, w.dtype, f"{made.args[0].name or 'W'}_T")

    def rows(self, b: Builder, w: Any, ids: Any) -> Any:
        shape = (*ids.shape, w.shape[1])
        return b.emit("gather", [w, ids], shape, w.dtype, template=("array",), checked=True)

    def gather(self, b: Builder, eqn: Eqn) -> Any:
        """A lookup whose ids are known to be right needs no second check."""
        if eqn.params["template"] != ("array",) or eqn.params.get("checked"):
            return None
        w, ids = eqn.args
        if ids.dtype.kind in "iu" and w.ndim == 2 and self.in_range(ids, w.shape[0]):
            return self.rows(b, w, ids)
        return None

    def add(self, b: Builder, eqn: Eqn) -> Any:
        """A bias is added to the few rows of a table, not to all that are looked up in it."""
        for x, bias in (eqn.args, eqn.args[::-1]):
            made = self.source(x, "gather")
            if made is None or not made.params.get("checked") or bias.ndim != 1 or x.shape != eqn.out.shape:
                continue
            table = made.args[0]
            if table.shape[0] <= _FEW_ROWS and bias.shape == table.shape[1:] and bias.dtype == table.dtype:
                biased = b.map("add", table, bias, name=f"{table.name or 'W'}_b")
                return b.reshape(self.rows(b, biased, made.args[1]), x.shape)
        return None

    # --- backward --------------------------------------------------------------------------------------
    def summed(self, b: Builder, ids: Any, g: Any, V: int) -> Any:
        """one_hot.T @ g; None to leave it as it is."""
        if product_is_faster(V, g.shape[1]):
            return None
        rows = b.reshape(g, (*ids.shape, g.shape[1]))
        shape = (V, g.shape[1])
        return b.emit("scatter", [rows, ids], shape, g.dtype, template=("array",), shape=shape)

    def turned_sum(self, b: Builder, g_T: Any, ids: Any, V: int) -> Any:
        """g.T @ one_hot; None to leave it as it is."""
        made = self.made[id(g_T)]
        total = self.summed(b, ids, made.args[0], V) if made.op == "transpose" else None
        return None if total is None else b.transpose(total, (1, 0))

    def scatter(self, b: Builder, eqn: Eqn) -> Any:
        """The gradient of a table of few rows: a product with one-hot rows."""
        if eqn.params["template"] != ("array",) or len(eqn.out.shape) != 2 or len(eqn.args) != 2:
            return None
        g, ids = eqn.args
        V, H = eqn.out.shape
        if g.dtype.kind != "f" or not self.in_range(ids, V) or not product_is_faster(V, H):
            return None
        n: Any = 1
        for length in ids.shape:
            n = n * length
        hot = b.emit("one_hot", [ids], (*ids.shape, V), g.dtype, V=V, dtype=g.dtype)
        return b.dot(b.transpose(b.reshape(hot, (n, V)), (1, 0)), b.reshape(g, (n, H)))


_RULES = {
    "dot": _Lookups.dot,
    "add": _Lookups.add,
    "gather": _Lookups.gather,
    "scatter": _Lookups.scatter,
}
