"""What can be said of a wrong gradient that no known mistake explains: how it follows from the right one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

__all__ = ["residue"]

# So many runs of indices are listed; more say no more than their number.
LISTED = 6
# Singular values of a larger error take longer than the comparison itself.
LARGEST_RANKED = 512


def residue(
    given: Sequence[np.ndarray],
    right: Sequence[np.ndarray],
    t: int | None = None,
    sizes: Mapping[str, int] | None = None,
    tolerance: float = 1e-9,
) -> list[str]:
    """How the gradient that was given follows from the right one, in sentences about "it".

    given, right: of one tensor, an array for each timestep; one array for what has no timesteps.
    t: the timestep to look at, None for what has none.
    sizes: what constant factors are named by, such as {"T": 8, "B": 4}.
    tolerance: of equality, norm-wise.

    Where nothing simpler holds, it is measured how far the two are from being proportional.

    >>> right = np.arange(1.0, 7).reshape(2, 3)
    >>> residue([right / 4], [right], sizes={"T": 5, "B": 4})
    ['it is 0.25 = 1/B times the right gradient']
    >>> wrong = right.copy()
    >>> wrong[1] = 0
    >>> residue([wrong], [right])
    ['it differs in row 1 only, where it is zero']
    """
    g, r = (np.asarray(of[t or 0], np.float64) for of in (given, right))
    same = _Equality(tolerance)
    said = []
    if not r.any():
        return ["it should be zero"]
    multiple = _multiple(g, r, sizes or {}, same)
    if multiple:
        everywhere = len(given) > 1 and all(
            _multiple(a, b, sizes or {}, same) == multiple for a, b in zip(given, right, strict=True)
        )
        said.append(f"it {multiple}" + (", at every timestep" if everywhere else ""))
    if g.ndim == 2 and g.shape[0] == g.shape[1] > 1 and same(g, r.T):
        said.append("it is the transpose of the right gradient")
    if t is not None:
        said += _other_timestep(given, right, t, same)
    names = _axes(g.ndim, t is not None)
    if not multiple and g.size > 1:
        said += [text for axis, name in enumerate(names) for text in _permutation(g, r, axis, name, same)]
    if said:
        return said
    weight = g.ndim == 2 and t is None
    ranked = _rank(g - r, r, sizes or {}, same) if weight else []
    return _part(g, r, names, sizes or {}, same) or ranked or [_nearest(g, r)]


class _Equality:
    """Whether two arrays are the same within a norm-wise tolerance."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance

    def __call__(self, a: np.ndarray, b: np.ndarray) -> bool:
        return bool(np.linalg.norm(a - b) <= self.tolerance * max(np.linalg.norm(a), np.linalg.norm(b)))

    def differs(self, g: np.ndarray, r: np.ndarray, axis: int) -> np.ndarray:
        """Along an axis, where the two differ."""
        others = tuple(k for k in range(g.ndim) if k != axis)
        of_each = np.sqrt(((g - r) ** 2).sum(axis=others))
        scale = max(np.linalg.norm(g), np.linalg.norm(r)) / np.sqrt(g.shape[axis])
        return np.flatnonzero(of_each > self.tolerance * scale)


def _multiple(g: np.ndarray, r: np.ndarray, sizes: Mapping[str, int], same: _Equality) -> str:
    """Which multiple of the right gradient it is; nothing if it is none, or the right one itself."""
    if not r.any() or same(g, r):
        return ""
    if not g.any():
        return "is zero"
    factor = float((g * r).sum() / (r * r).sum())
    if not same(g, factor * r):
        return ""
    if abs(factor + 1) <= same.tolerance:
        return "has the wrong sign: it is -1 times the right gradient"
    names = [_digits(factor), *_names_of(factor, sizes, same.tolerance)]
    return f"is {' = '.join(names)} times the right gradient"


def _digits(factor: float) -> str:
    """A factor in as many digits as tell it from 1 and -1."""
    texts = (f"{factor:.{digits}g}" for digits in range(6, 18))
    return next((text for text in texts if text.removeprefix("-") != "1"), f"{factor:.17g}")


def _names_of(factor: float, sizes: Mapping[str, int], tolerance: float) -> list[str]:
    known = {name: size for name, size in sizes.items() if size > 1}
    products = dict(known)
    if len(known) > 1:
        products["*".join(known)] = int(np.prod(list(known.values())))
    named = {name: float(size) for name, size in products.items()}
    named |= {f"1/({name})" if "*" in name else f"1/{name}": 1 / size for name, size in products.items()}
    return [name for name, value in named.items() if abs(factor - value) <= tolerance * value]


def _other_timestep(
    given: Sequence[np.ndarray], right: Sequence[np.ndarray], t: int, same: _Equality
) -> list[str]:
    T = len(given)
    others = [s for s in range(T) if s != t and given[t].any() and same(given[t], right[s])]
    if not others:
        return []
    s = min(others, key=lambda s: abs(s - t))
    said = f"it is the right gradient of t={s}"
    if T > 2 and all(same(given[u], right[T - 1 - u]) for u in range(T)):
        return [f"{said}: the timesteps stand in reverse order"]
    pairs = [(u, u + s - t) for u in range(T) if 0 <= u + s - t < T]
    if len(pairs) > 1 and all(same(given[u], right[v]) for u, v in pairs):
        how = "later" if s > t else "before"
        return [f"{said}: every timestep has that of the one {abs(s - t)} {how}"]
    return [said]


def _axes(ndim: int, timed: bool) -> list[str]:
    """What the indices of each axis are called; a {} stands for them."""
    if ndim == 1:
        return ["element {}"]
    if ndim == 2 and not timed:
        return ["row {}", "column {}"]
    names = [f"index {{}} of axis {k}" for k in range(ndim)]
    if ndim:
        names[-1] = "unit {}"
        names[0 if timed else 1] = "row {} of the batch"
    if ndim and not timed:
        names[0] = "timestep {}"
    return names


def _listed(name: str, indices: Iterable[int]) -> str:
    """Indices in words, whole runs as slices: "units 0:3, 7"."""
    runs: list[list[int]] = []
    for k in indices:
        if runs and k == runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([k, k + 1])
    shown = [
        str(a) if b == a + 1 else f"{a}, {a + 1}" if b == a + 2 else f"{a}:{b}" for a, b in runs[:LISTED]
    ]
    if len(runs) > LISTED:
        shown.append("...")
    one = len(runs) == 1 and runs[0][1] == runs[0][0] + 1
    head, _, tail = name.partition("{}")
    if head and not one:
        head = "indices " if head == "index " else f"{head.rstrip()}s "
    return f"{head}{', '.join(shown)}{tail}"


def _permutation(g: np.ndarray, r: np.ndarray, axis: int, name: str, same: _Equality) -> list[str]:
    """Whether its units, rows or columns are the right ones in another order."""
    places = same.differs(g, r, axis)
    if len(places) < 2:
        return []
    a, b = (np.moveaxis(x, axis, 0)[places].reshape(len(places), -1) for x in (g, r))
    # One number for each, the same for the same vector: sorting pairs them, and the pairs are compared.
    probe = np.random.default_rng(0).standard_normal(a.shape[1])
    source = np.empty(len(places), int)
    source[np.argsort(a @ probe, kind="stable")] = np.argsort(b @ probe, kind="stable")
    if not same(a, b[source]):
        return []
    if len(places) == 2:
        return [f"{_listed(name, places)} are exchanged"]
    if (source == np.arange(len(places))[::-1]).all():
        return [f"{_listed(name, places)} stand in reverse order"]
    starts = [0, *(np.flatnonzero((np.diff(source) != 1) | (np.diff(places) != 1)) + 1), len(places)]
    said = [
        f"{_listed(name, places[i:j])} hold {_listed('{}', places[source[i:j]])}"
        for i, j in pairwise(starts[: LISTED + 1])
    ]
    more = ", ..." if len(starts) - 1 > LISTED else ""
    return [f"it has the right numbers in another order: {', '.join(said)}{more}"]


def _part(
    g: np.ndarray, r: np.ndarray, names: list[str], sizes: Mapping[str, int], same: _Equality
) -> list[str]:
    """Which rows and units differ, if not all do, and how they follow from the right ones."""
    where = [same.differs(g, r, axis) for axis in range(g.ndim)]
    partly = [_listed(name, k) for name, k, n in zip(names, where, g.shape, strict=True) if 0 < len(k) < n]
    if not partly:
        return []
    there = _multiple(g[np.ix_(*where)], r[np.ix_(*where)], sizes, same)
    if not there and not r[np.ix_(*where)].any():
        there = "should be zero"
    return [f"it differs in {' and '.join(partly)} only" + (f", where it {there}" if there else "")]


def _rank(error: np.ndarray, r: np.ndarray, sizes: Mapping[str, int], same: _Equality) -> list[str]:
    """How few outer products make up the error of a matrix."""
    if min(error.shape) > LARGEST_RANKED:
        return []
    singular = [np.linalg.svd(x, compute_uv=False) for x in (error, r)]
    rank, full = (int((values > same.tolerance * values[0]).sum()) for values in singular)
    if rank >= full:
        return []
    known = " = B, no more than the share of one timestep" if rank == sizes.get("B") else ""
    return [f"its error has rank {rank}{known}; the right gradient has rank {full}"]


def _nearest(g: np.ndarray, r: np.ndarray) -> str:
    factor = float((g * r).sum() / (r * r).sum())
    left = np.linalg.norm(g - factor * r) / np.linalg.norm(g)
    return (
        f"at best it is {factor:.3g} times the right gradient, and {left:.0%} of its norm is something else"
    )
