"""Text becomes ids, streams and windows; windows can be resumed, and mistakes get one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tensorgrad.data import Vocabulary, Windows, pad, read_text, split, streams
from tensorgrad.errors import CheckpointError, DtypeError, ShapeError, TensorgradError, UserError

texts = st.text(min_size=2).filter(lambda text: len(set(text)) > 1)
sizes_and_more = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(0, 60))


@given(texts)
def test_encode_is_the_place_in_sorted_order(text: str) -> None:
    vocabulary = Vocabulary(text)
    ordered = sorted(set(text))
    ids = vocabulary.encode(text)
    assert ids.dtype == np.intp
    assert ids.tolist() == [ordered.index(character) for character in text]
    assert vocabulary.decode(ids) == text
    assert len(vocabulary) == len(ordered)


@given(texts)
def test_a_vocabulary_survives_json(text: str) -> None:
    vocabulary = Vocabulary(text)
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)
    assert again.encode(text).tolist() == vocabulary.encode(text).tolist()


@given(texts, st.text())
def test_the_first_unseen_character_is_named(known: str, prompt: str) -> None:
    unseen = [at for at, character in enumerate(prompt) if character not in known]
    vocabulary = Vocabulary(known)
    if not unseen:
        assert vocabulary.decode(vocabulary.encode(prompt)) == prompt
        return
    with pytest.raises(UserError) as caught:
        vocabulary.encode(prompt)
    message = str(caught.value)
    assert message.startswith(f"the character {prompt[unseen[0]]!r} at position {unseen[0]} is unknown")
    assert repr(vocabulary.characters) in message or len(vocabulary) > 80


def test_a_prompt_that_is_no_unicode_gets_the_same_sentence() -> None:
    """Python turns bytes of the command line that are not UTF-8 into lone surrogates."""
    with pytest.raises(UserError, match=r"the character '\\udcff' at position 1 is unknown"):
        Vocabulary("ab").encode("a\udcff")


def test_a_large_vocabulary_is_not_printed_whole() -> None:
    with pytest.raises(UserError, match=r"and 920 more$") as caught:
        Vocabulary("".join(chr(0x4E00 + i) for i in range(1000))).encode("a")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["", "a", "aaaa", "\U0001f600\U0001f600"])
def test_a_vocabulary_of_one_letter_has_nothing_to_predict(text: str) -> None:
    with pytest.raises(UserError, match="nothing to predict"):
        Vocabulary(text)


@pytest.mark.parametrize(
    "stored", [None, "ab", {}, [], ["a"], ["b", "a"], ["a", "a"], ["a", 1], ["ab", "c"], ["", "a", "b"]]
)
def test_a_damaged_vocabulary_is_refused(stored: Any) -> None:
    with pytest.raises(CheckpointError, match="vocabulary is damaged"):
        Vocabulary.from_json(stored)


@pytest.mark.parametrize("ids", [[0, 2], [-1], [[0], [5]]])
def test_ids_outside_the_vocabulary_are_refused(ids: Any) -> None:
    with pytest.raises(ShapeError, match="must be from 0 to 1"):
        Vocabulary("ab").decode(ids)


def test_ids_that_are_not_integers_are_refused() -> None:
    for ids in ([0.0], [True], ["a"]):
        with pytest.raises(DtypeError, match="ids are integers"):
            Vocabulary("ab").decode(ids)


def test_no_ids_are_no_text() -> None:
    assert Vocabulary("ab").decode([]) == ""
    assert Vocabulary("ab").encode("").shape == (0,)


@given(text=st.text(min_size=1))
def test_read_text_keeps_every_character(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("text") / "file.txt"
    assume(text != "\ufeff")
    path.write_bytes(text.encode())
    assert read_text(path) == text.removeprefix("\ufeff")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"caf\xe9 au lait", "is not UTF-8: byte 0xe9 at offset 3"),
        ("text".encode("utf-16"), "is not UTF-8: byte 0xff at offset 0"),
        ("\ufeffé".encode()[:-1], "is not UTF-8: byte 0xc3 at offset 3"),
        (b"ab\xed\xa0\x80", "is not UTF-8: byte 0xed at offset 2"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        read_text(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for path, reason in [
        (tmp_path / "missing", "there is no file"),
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "inside", "cannot read|there is no file"),
    ]:
        with pytest.raises(UserError, match=reason) as caught:
            read_text(path)
        assert str(path) in str(caught.value)


@given(st.integers(0, 50), st.floats(0, 1, exclude_min=True))
def test_split_loses_nothing(n: int, fraction: float) -> None:
    ids = np.arange(n)
    first, rest = split(ids, fraction)
    np.testing.assert_array_equal(np.concatenate([first, rest]), ids)
    assert len(first) == int(n * fraction)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_split_wants_a_fraction(fraction: float) -> None:
    with pytest.raises(UserError, match="above 0 and at most 1"):
        split(np.arange(4), fraction)


@given(st.integers(1, 60), st.integers(1, 8))
def test_streams_are_contiguous(length: int, batch: int) -> None:
    ids = np.arange(length)
    if length < batch:
        with pytest.raises(UserError, match=f"has {length} characters, and a batch of {batch}"):
            streams(ids, batch)
        return
    rows = streams(ids, batch)
    assert rows.shape == (batch, length // batch)
    np.testing.assert_array_equal(rows.ravel(), ids[: rows.size])
    assert np.shares_memory(rows, ids)


@given(sizes_and_more)
def test_windows_read_each_stream_in_order_and_reset_where_the_text_wraps(
    sizes: tuple[int, int, int],
) -> None:
    T, B, more = sizes
    ids = np.arange(T * B + 1 + more)
    given_windows = Windows(ids, T, B)
    rows = streams(ids[:-1], B)
    passes = []
    for _ in range(2):
        seen = []
        for k in range(given_windows.per_pass):
            xs, ys, reset = next(given_windows)
            assert xs.shape == ys.shape == (T, B)
            assert xs.flags.c_contiguous
            assert ys.flags.c_contiguous
            assert reset is (k == 0)
            # With ids that count up, the target of every character is the next number.
            np.testing.assert_array_equal(ys, xs + 1)
            seen.append(xs)
        passes.append(np.concatenate(seen))
    np.testing.assert_array_equal(passes[0], passes[1])
    np.testing.assert_array_equal(passes[0].T, rows[:, : len(passes[0])])
    assert rows.shape[1] - len(passes[0]) < T


@given(sizes_and_more, st.integers(0, 20))
def test_windows_go_on_exactly_where_they_were_saved(sizes: tuple[int, int, int], taken: int) -> None:
    T, B, more = sizes
    ids = np.arange(T * B + 1 + more) % 7
    first, again = Windows(ids, T, B), Windows(ids.astype(np.int32), T, B)
    for _ in range(taken):
        next(first)
    again.restore(json.loads(json.dumps(first.state())))
    for _ in range(2 * first.per_pass + 1):
        for a, b in zip(next(first), next(again), strict=True):
            np.testing.assert_array_equal(a, b)
    assert again.state() == first.state()


def test_windows_do_not_end() -> None:
    count = sum(1 for _, _ in zip(range(100), Windows(np.arange(5), 2, 2), strict=False))
    assert count == 100


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"position": -1}, "damaged"),
        ({"position": 1.0}, "damaged"),
        ({"position": True}, "damaged"),
        ({"position": None}, "damaged"),
        ({"more": 1}, "damaged"),
        ({"T": 3}, "windows of T = 3, but here it is 2"),
        ({"B": 3}, "a batch of B = 3, but here it is 2"),
        ({"length": 8}, "a text of length = 8, but here it is 9"),
        ({"crc32": 0}, "another text of the same length"),
    ],
)
def test_a_position_that_does_not_fit_changes_nothing(change: dict[str, Any], reason: str) -> None:
    some = Windows(np.arange(9), 2, 2)
    next(some)
    with pytest.raises(CheckpointError, match=reason):
        some.restore({**some.state(), **change})
    assert some.position == 1
    with pytest.raises(CheckpointError, match="damaged"):
        some.restore({})


def test_another_text_of_the_same_length_is_noticed() -> None:
    with pytest.raises(CheckpointError, match="another text"):
        Windows(np.arange(9), 2, 2).restore(Windows(np.arange(1, 10), 2, 2).state())


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_a_text_shorter_than_one_window_says_how_much_is_needed(T: int, B: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, T * B))
    with pytest.raises(UserError, match=rf"has {length} characters.* need at least {T * B + 1};"):
        Windows(np.zeros(length, np.intp), T, B)
    assert Windows(np.zeros(T * B + 1, np.intp), T, B).per_pass == 1


@pytest.mark.parametrize(("T", "B"), [(0, 1), (1, 0), (-5, 2), (2, -5)])
def test_sizes_start_at_one(T: int, B: int) -> None:
    with pytest.raises(UserError, match="must be at least 1, not"):
        Windows(np.arange(100), T, B)


def test_a_text_is_one_dimensional() -> None:
    for use in (lambda ids: streams(ids, 1), lambda ids: Windows(ids, 1, 1)):
        with pytest.raises(ShapeError, match="1-d"):
            use(np.zeros((3, 4), np.intp))


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=4))
def test_pad_keeps_each_sequence_and_zeros_the_rest(sequences: list[list[int]]) -> None:
    array, lengths = pad([np.array(sequence, np.int32) for sequence in sequences])
    assert array.dtype == np.int32
    assert array.shape == (max(map(len, sequences)), len(sequences))
    assert lengths.tolist() == [len(sequence) for sequence in sequences]
    for b, sequence in enumerate(sequences):
        assert array[: len(sequence), b].tolist() == sequence
        assert not array[len(sequence) :, b].any()


def test_pad_refuses_what_it_cannot_put_side_by_side() -> None:
    with pytest.raises(ShapeError, match="no sequences"):
        pad([])
    with pytest.raises(ShapeError, match=r"sequence 1 has shape \(2, 2\)"):
        pad([np.zeros(2), np.zeros((2, 2))])


def test_mistakes_of_the_person_at_the_terminal_are_value_errors_too() -> None:
    assert issubclass(UserError, TensorgradError)
    assert issubclass(UserError, ValueError)
