"""Checkpoints: exact, atomic, and never believed when damaged."""

from __future__ import annotations

import builtins
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save

from tensorgrad import io
from tensorgrad.errors import CheckpointError
from tensorgrad.io import check_names, load_checkpoint, rng_state, save_checkpoint, set_rng_state

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
DTYPES += ["float16", "float32", "float64"]
BIT_GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64]

# One file for all examples of a property is what is wanted: each save must replace the one before.
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda name: name != "__metadata__"
)
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "old.safetensors"
    save_checkpoint(path, {"W": np.arange(6.0).reshape(2, 3), "n": np.array(7)}, {"step": 1, "chars": ["a"]})
    return path


@same_folder
@given(
    tensors=st.dictionaries(names, arrays, max_size=4),
    meta=st.dictionaries(st.text(), json_values, max_size=4),
)
def test_everything_comes_back_exactly(tmp_path: Path, tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, tensors, meta)
    found = load_checkpoint(path)
    assert found.meta == meta
    assert found.tensors.keys() == tensors.keys()
    for name, array in tensors.items():
        assert same(found.tensors[name], array)
        assert found.tensors[name].flags.writeable
        assert found.tensors[name].flags.owndata
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12.0)[::-2],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.broadcast_to(np.float32(2), (2, 3)),
        np.arange(3, dtype=">f4"),
        np.arange(3, dtype=">i8"),
        np.float64(3),
    ],
    ids=["transposed", "strided", "fortran", "broadcast", "big-endian", "big-endian ints", "scalar"],
)
def test_layout_does_not_matter(tmp_path: Path, array: np.ndarray) -> None:
    save_checkpoint(tmp_path / "c", {"a": array}, {})
    found = load_checkpoint(tmp_path / "c").tensors["a"]
    assert found.shape == array.shape
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array)


def test_meta_keeps_what_is_not_strict_json(tmp_path: Path) -> None:
    meta = {"nan": math.nan, "inf": -math.inf, "big": 2**200, "lone surrogate": "\ud800", "float": 0.1}
    save_checkpoint(tmp_path / "c", {}, meta)
    found = load_checkpoint(tmp_path / "c").meta
    assert math.isnan(found.pop("nan"))
    meta.pop("nan")
    assert found == meta


def test_the_same_checkpoint_has_the_same_bytes(tmp_path: Path) -> None:
    tensors = {name: np.ones(3) for name in "zyxabc"}
    files = [tmp_path / str(i) for i in range(5)]
    for file in files:
        save_checkpoint(file, tensors, {"b": 1, "a": {"d": 2, "c": 3}})
    assert len({file.read_bytes() for file in files}) == 1


def test_meta_that_json_would_change_is_saved_as_json_reads_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", {}, {"shape": (1, 2), "of": {1: "a", "1": "b"}})
    assert load_checkpoint(tmp_path / "c").meta == {"shape": [1, 2], "of": {"1": "b"}}


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"tensor": "grad"}])
def test_files_of_other_programs_load_with_empty_meta(tmp_path: Path, metadata: Any) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"a": np.arange(3, dtype=np.float32)}, metadata))
    found = load_checkpoint(path)
    assert found.meta == {}
    assert same(found.tensors["a"], np.arange(3, dtype=np.float32))


def raw_file(dtype: str, data: bytes, metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file with one tensor, written by hand."""
    header: dict[str, Any] = {"a": {"dtype": dtype, "shape": [2], "data_offsets": [0, len(data)]}}
    if metadata:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_a_dtype_that_numpy_lacks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bf16.safetensors"
    path.write_bytes(raw_file("BF16", b"\0" * 4))
    with pytest.raises(CheckpointError, match=r"bf16\.safetensors stores a tensor as BF16"):
        load_checkpoint(path)


def test_every_truncation_is_found(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    short = tmp_path / "short.safetensors"
    for length in range(len(data)):
        short.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"short\.safetensors"):
            load_checkpoint(short)
    short.write_bytes(data + b"\0")
    with pytest.raises(CheckpointError, match=r"short\.safetensors"):
        load_checkpoint(short)


def test_every_flipped_bit_is_found(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    flipped = tmp_path / "flipped.safetensors"
    for at in range(len(data)):
        for bit in range(8):
            flipped.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            with pytest.raises(CheckpointError, match=r"flipped\.safetensors"):
                load_checkpoint(flipped)


@pytest.mark.parametrize(
    ("was", "now"), [(b'"F64"', b'"I64"'), (b"[2,3]", b"[3,2]"), (b'"W"', b'"V"'), (b"step", b"stop")]
)
def test_a_header_that_tells_another_story_is_found(saved: Path, was: bytes, now: bytes) -> None:
    data = saved.read_bytes()
    assert data.count(was) == 1
    saved.write_bytes(data.replace(was, now))
    with pytest.raises(CheckpointError, match="do not match the checksum"):
        load_checkpoint(saved)


@same_folder
@given(data=st.data())
def test_no_damage_is_believed(saved: Path, data: st.DataObject) -> None:
    """Any bytes overwritten: an error, or the old contents (the header has harmless white space)."""
    good = saved.read_bytes()
    path = saved.with_name("damaged.safetensors")
    start = data.draw(st.integers(0, len(good) - 1))
    patch = data.draw(st.binary(min_size=1, max_size=12))
    path.write_bytes(good[:start] + patch + good[start + len(patch) :])
    try:
        found = load_checkpoint(path)
    except CheckpointError:
        return
    whole = load_checkpoint(saved)
    assert found.meta == whole.meta
    assert found.tensors.keys() == whole.tensors.keys()
    assert all(same(found.tensors[name], whole.tensors[name]) for name in whole.tensors)


@same_folder
@given(junk=st.binary(max_size=200))
def test_no_junk_gets_past_the_reader(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "junk.safetensors"
    for content in (junk, len(junk).to_bytes(8, "little") + junk):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"junk\.safetensors"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"tensorgrad": "[]"},
        {"tensorgrad": "not JSON"},
        {"tensorgrad": "{}"},
        {"tensorgrad": '{"format": "tensorgrad", "version": 1, "meta": [], "sha256": ""}'},
        {"tensorgrad": '{"format": "tensorgrad", "version": "1", "meta": {}, "sha256": ""}'},
    ],
)
def test_an_entry_of_our_name_with_other_contents_is_damage(tmp_path: Path, metadata: Any) -> None:
    path = tmp_path / "c"
    path.write_bytes(raw_file("F32", b"\0" * 8, metadata))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_a_newer_format_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "VERSION", 2)
    save_checkpoint(tmp_path / "new", {}, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"new has checkpoint format 2.*upgrade tensorgrad"):
        load_checkpoint(tmp_path / "new")


def test_paths_that_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "page").write_text("<html>not found</html>")
    for path, reason in [
        (tmp_path / "missing", "there is no checkpoint"),
        (tmp_path, "is a folder"),
        (tmp_path / "empty", "is empty"),
        (tmp_path / "page", "is damaged, or not a safetensors file"),
        (tmp_path / "page" / "inside", "cannot read the checkpoint"),
    ]:
        with pytest.raises(CheckpointError, match=reason) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


class Killed(BaseException):
    """Stands for Ctrl-C and the like, which no `except Exception` sees."""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Killed(), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(
    saved: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    before = saved.read_bytes()

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(os, call, fail)
    expected = CheckpointError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as caught:
        save_checkpoint(saved, {"W": np.zeros(1000)}, {})
    if expected is CheckpointError:
        assert "No space left on device; nothing was overwritten" in str(caught.value)
    assert saved.read_bytes() == before
    assert [entry.name for entry in saved.parent.iterdir()] == [saved.name]


def test_a_write_that_fails_halfway_leaves_the_old_file_and_nothing_else(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    class Full:
        def __init__(self, path: Path, mode: str) -> None:
            self.file = builtins.open(path, mode)  # noqa: SIM115 - closed in __exit__

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(io, "open", Full, raising=False)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(saved, {"W": np.zeros(1000)}, {})
    assert saved.read_bytes() == before
    assert [entry.name for entry in saved.parent.iterdir()] == [saved.name]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_process_killed_before_the_rename_leaves_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    program = (
        "import os, signal, sys, numpy as np\n"
        "from tensorgrad.io import save_checkpoint\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "save_checkpoint(sys.argv[1], {'W': np.zeros(1000)}, {})\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(saved)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert saved.read_bytes() == before
    assert load_checkpoint(saved).meta["step"] == 1


@pytest.mark.parametrize(
    ("tensors", "meta", "reason"),
    [
        ({"words": np.array(["a"])}, {}, "tensor 'words' has dtype <U1"),
        ({"things": np.array([None])}, {}, "tensor 'things' has dtype object"),
        ({"z": np.zeros(2, complex)}, {}, "tensor 'z' has dtype complex128"),
        ({"__metadata__": np.zeros(2)}, {}, "cannot be named '__metadata__'"),
        ({"\ud800": np.zeros(2)}, {}, "surrogates not allowed"),
        ({}, {"loss": np.float32(1)}, "float32 is not JSON serializable"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_writing(
    saved: Path, tensors: dict[str, Any], meta: dict[str, Any], reason: str
) -> None:
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match=reason):
        save_checkpoint(saved, tensors, meta)
    assert saved.read_bytes() == before


def test_places_that_cannot_be_written(saved: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "such" / "folder", saved / "inside"):
        with pytest.raises(CheckpointError, match="cannot save the checkpoint") as caught:
            save_checkpoint(path, {}, {})
        assert str(path) in str(caught.value)


def test_a_link_is_written_through(saved: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest"
    try:
        link.symlink_to(saved)
    except OSError:
        pytest.skip("this system makes no symbolic links")
    save_checkpoint(link, {}, {"step": 2})
    assert link.is_symlink()
    assert load_checkpoint(saved).meta == {"step": 2}


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_the_file_gets_ordinary_permissions(saved: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    assert saved.stat().st_mode == plain.stat().st_mode


def test_check_names_lists_all_that_is_wrong() -> None:
    expected = {"a": np.zeros(2), "b": np.zeros((2, 3)), "c": np.zeros(()), "d": np.zeros(4)}
    found = {"a": np.zeros(2), "b": np.zeros((3, 2)), "d": np.zeros(()), "e": np.zeros(5)}
    check_names(expected, dict(reversed(expected.items())), "the model")
    with pytest.raises(CheckpointError) as caught:
        check_names(expected, found, "the model")
    assert str(caught.value) == (
        "the checkpoint does not fit the model: c () is missing; e (5,) is unexpected; "
        "b is (3, 2) and should be (2, 3); d is () and should be (4,)"
    )


@pytest.mark.parametrize("kind", BIT_GENERATORS)
@given(seed=st.integers(0, 2**64), draws=st.integers(0, 700))
def test_random_state_goes_on_exactly(kind: Any, seed: int, draws: int) -> None:
    generator = np.random.Generator(kind(seed))
    generator.integers(0, 2**16, draws, dtype=np.uint16)
    again = np.random.Generator(kind())
    set_rng_state(again, json.loads(json.dumps(rng_state(generator))))
    assert rng_state(again) == rng_state(generator)
    np.testing.assert_array_equal(again.standard_normal(9), generator.standard_normal(9))


def test_random_state_survives_a_checkpoint(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    save_checkpoint(tmp_path / "c", {}, {"rng": rng_state(generator)})
    again = np.random.default_rng()
    set_rng_state(again, load_checkpoint(tmp_path / "c").meta["rng"])
    assert again.random() == generator.random()


@pytest.mark.parametrize("kind", BIT_GENERATORS)
def test_a_bad_random_state_changes_nothing(kind: Any) -> None:
    generator = np.random.Generator(kind(1))
    before = rng_state(generator)
    good = json.dumps(before)
    bad: list[Any] = [None, [], {}, {"bit_generator": before["bit_generator"]}, {**before, "state": 3}]
    for key, value in before["state"].items():
        wrong = [value[:-1], [*value, 1]] if isinstance(value, list) else [float(value), str(value)]
        bad += [{**before, "state": {**before["state"], key: item}} for item in (None, [-1], *wrong)]
    for state in bad:
        with pytest.raises(CheckpointError, match="random state"):
            set_rng_state(generator, state)
        assert json.dumps(rng_state(generator)) == good
    with pytest.raises(CheckpointError, match="is of Other, but this generator is"):
        set_rng_state(generator, {**before, "bit_generator": "Other"})


def test_a_random_state_out_of_range_changes_nothing() -> None:
    generator = np.random.default_rng(1)
    before = rng_state(generator)
    for key, value in (("state", 1 << 200), ("inc", -1)):
        with pytest.raises(CheckpointError, match="random state is damaged"):
            set_rng_state(generator, {**before, "state": {**before["state"], key: value}})
    with pytest.raises(CheckpointError, match="random state is damaged"):
        set_rng_state(generator, {**before, "state": {"state": 5, "inc": 7}, "uinteger": 1 << 40})
    assert rng_state(generator) == before


@pytest.mark.parametrize("kind", [np.random.Philox, np.random.SFC64])
def test_a_random_state_that_fails_halfway_changes_nothing(kind: Any) -> None:
    """NumPy sets the parts of these one by one, and meets the bad one last."""
    generator = np.random.Generator(kind(1))
    before = rng_state(generator)
    other = rng_state(np.random.Generator(kind(2)))
    with pytest.raises(CheckpointError, match="random state is damaged"):
        set_rng_state(generator, {**other, "uinteger": 1 << 40})
    assert rng_state(generator) == before


def test_the_temporary_file_is_in_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename is atomic within one file system only."""
    seen = []
    replace = os.replace

    def record(a: Path, b: Path) -> None:
        seen.append((a, b))
        replace(a, b)

    monkeypatch.setattr(os, "replace", record)
    save_checkpoint(tmp_path / "c", {}, {})
    assert [(a.parent, b) for a, b in seen] == [(tmp_path.resolve(), (tmp_path / "c").resolve())]
