"""Names become padded ids, digits become sequences; splits and minibatches lose nothing and leak nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorgrad.data import (
    PAD,
    Batch,
    Names,
    holdout,
    minibatches,
    pad,
    parity,
    read_names,
    sequential_digits,
)
from tensorgrad.errors import DtypeError, ShapeError, UserError

LISTED = [
    ("Bach", "German"),
    ("Satie", "French"),
    ("Fauré", "French"),
    ("Mahler", "German"),
    ("Sibelius", "Finnish"),
]


def listed(names: Names) -> list[tuple[str, str]]:
    batch, vocabulary, classes = names
    assert batch.lengths is not None
    return [
        (vocabulary.decode(ids[:n]), classes[y])
        for ids, n, y in zip(batch.xs.T, batch.lengths, batch.ys, strict=True)
    ]


@pytest.mark.parametrize("separator", ["\t", ",", " \t ", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_a_file_of_names_and_labels(tmp_path: Path, separator: str, end: str) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("".join(f"{name}{separator}{label}{end}" for name, label in LISTED).encode())
    names = read_names(path)
    assert names.batch.lengths is not None
    assert listed(names) == LISTED
    assert names.classes == ("Finnish", "French", "German")
    assert names.batch.xs.shape == (8, 5)
    assert names.batch.ys.dtype == names.batch.xs.dtype == np.intp
    padding = np.arange(8)[:, None] >= names.batch.lengths
    assert (names.batch.xs[padding] == PAD).all()
    assert (names.batch.xs[~padding] != PAD).all()


def test_a_comma_in_a_name_stays_there(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("Bach, J. S.\tGerman\nSatie, Erik,French\n", encoding="utf-8")
    assert listed(read_names(path)) == [("Bach, J. S.", "German"), ("Satie, Erik", "French")]


def test_a_folder_with_a_file_for_each_label(tmp_path: Path) -> None:
    for label in ("German", "French"):
        lines = [name for name, its in LISTED if its == label]
        (tmp_path / f"{label}.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "README.md").write_text("not names", encoding="utf-8")
    assert sorted(listed(read_names(tmp_path))) == sorted(pair for pair in LISTED if pair[1] != "Finnish")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Bach\tGerman\nSatie\n", "line 2: .*found 'Satie'"),
        ("Bach\tGerman\n\n\tFrench\n", r"line 3: .*found '\\tFrench'"),
        ("Bach,\n", "line 1: .*found 'Bach,'"),
        ("Satie\t\n", r"line 1: .*found 'Satie\\t'"),
        ("Bach\tGerman\nMahler\tGerman\n", "has names with 1 different label"),
        ("Bach\tGerman\nSatie\0\tFrench\n", "line 2: there is a NUL character"),
        ("\n\n", "has names with 0 different label"),
        ("", "is empty"),
    ],
)
def test_a_file_that_is_no_list_of_names_says_where(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "names.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=reason) as caught:
        read_names(path)
    assert str(path) in str(caught.value)


def test_places_without_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        read_names(tmp_path / "missing")
    with pytest.raises(UserError, match="has no files <label>"):
        read_names(tmp_path)


def test_the_chance_of_names_is_the_entropy_of_the_labels(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("".join(f"name{i},{'ab'[i % 4 == 0]}\n" for i in range(40)), encoding="utf-8")
    answered = np.array([0.75, 0.25])[read_names(path).batch.ys]
    assert read_names(path).batch.chance == pytest.approx(-np.log(answered).mean())


def test_digits_by_pixel_and_by_row() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    pixels, rows = sequential_digits(), sequential_digits(rows=True, dtype=np.float32)
    assert pixels.xs.shape == (64, 1797, 1)
    assert rows.xs.shape == (8, 1797, 8)
    assert rows.xs.dtype == np.float32
    np.testing.assert_array_equal(pixels.xs[:, :, 0].T * 16, images)
    np.testing.assert_array_equal(rows.xs[2, 100] * 16, images[100, 16:24])
    assert pixels.xs.min() == 0
    assert pixels.xs.max() == 1
    np.testing.assert_array_equal(pixels.ys, labels)
    shares = np.bincount(labels) / len(labels)
    assert pixels.chance == pytest.approx(-shares @ np.log(shares), rel=1e-3)


def test_digits_without_scikit_learn_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        sequential_digits()
    with pytest.raises(DtypeError, match="sequential_digits: dtype must be a floating one"):
        sequential_digits(dtype=int)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    words = draw(st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=4), min_size=2, max_size=12))
    xs, lengths = pad(words)
    # The place of each sequence is its label, to find it again.
    return Batch(xs, np.arange(len(words)), lengths, 0.5)


def columns(batch: Batch) -> dict[int, list[int]]:
    assert batch.lengths is not None
    return {int(y): x[:n].tolist() for x, y, n in zip(batch.xs.T, batch.ys, batch.lengths, strict=True)}


@given(batch=batches(), B=st.integers(1, 13), seed=st.integers(0, 99))
def test_minibatches_give_every_sequence_once(batch: Batch, B: int, seed: int) -> None:
    seen: dict[int, list[int]] = {}
    sizes = []
    for part in minibatches(batch, B, seed):
        assert part.lengths is not None
        assert len(part.xs) == part.lengths.max()
        assert part.chance == batch.chance
        sizes.append(len(part.ys))
        seen |= columns(part)
    assert seen == columns(batch)
    assert sum(sizes) == len(batch.ys)
    assert all(size == B for size in sizes[:-1])


def test_minibatches_come_in_another_order_on_every_pass() -> None:
    batch = Batch(np.zeros((3, 50, 2)), np.arange(50), None, 0.5)
    rng = np.random.default_rng(0)
    orders = [np.concatenate([part.ys for part in minibatches(batch, 8, rng)]).tolist() for _ in range(2)]
    assert orders[0] != orders[1] != list(range(50))
    assert orders[0] == np.concatenate([part.ys for part in minibatches(batch, 8, 0)]).tolist()


@given(batch=batches(), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_holdout_loses_nothing_and_no_test_sequence_is_trained_on(
    batch: Batch, fraction: float, seed: int
) -> None:
    different = {tuple(x) for x in columns(batch).values()}
    if len(different) < 2:
        with pytest.raises(UserError, match="at least two different sequences to split, but has 1"):
            holdout(batch, fraction, seed)
        return
    train, test = map(columns, holdout(batch, fraction, seed))
    assert {**train, **test} == columns(batch)
    assert len(train) + len(test) == len(batch.ys)
    kept = {tuple(x) for x in test.values()}
    assert not kept & {tuple(x) for x in train.values()}
    assert abs(len(kept) - fraction * len(different)) <= 1


def test_holdout_splits_sequences_of_features_too() -> None:
    xs = np.random.default_rng(0).random((4, 10, 3))
    train, test = holdout(Batch(xs, np.arange(10), None, 0.5), 0.3, seed=0)
    assert (train.xs.shape, test.xs.shape) == ((4, 7, 3), (4, 3, 3))
    np.testing.assert_array_equal(test.xs, xs[:, test.ys])
    assert test.lengths is None


@pytest.mark.parametrize("fraction", [0, 1, -0.5, float("nan")])
def test_holdout_wants_a_fraction(fraction: Any) -> None:
    with pytest.raises(UserError, match="holdout: fraction must be above 0 and below 1"):
        holdout(Batch(np.eye(4), np.arange(4), None, 0.5), fraction)


def test_targets_at_every_step_are_refused() -> None:
    for split in (lambda batch: holdout(batch), lambda batch: minibatches(batch, 2)):
        with pytest.raises(
            ShapeError, match=r"one class for each sequence, ys \(5,\), .* has shape \(9, 5\)"
        ):
            split(parity(9, 5, 0))


def test_minibatches_want_a_size_at_once() -> None:
    with pytest.raises(UserError, match="minibatches: B must be an integer of at least 1, not 0"):
        minibatches(Batch(np.eye(4), np.arange(4), None, 0.5), 0)
