"""Checkpoints: named arrays and JSON in one safetensors file.

A save is atomic, a load is checked to the last byte, and `check_names` tells what does not fit before
anything is assigned. Everything of tensorgrad's own stands in one entry of the file's metadata: safetensors
writes several in random order, and so the same checkpoint always has the same bytes. Other programs read the
tensors as they read any safetensors file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as _decode
from safetensors.numpy import save as _encode

from tensorgrad.errors import CheckpointError
from tensorgrad.nn.module import Module

__all__ = [
    "Checkpoint",
    "check_names",
    "load_checkpoint",
    "load_weights",
    "rng_state",
    "save_checkpoint",
    "save_weights",
    "set_rng_state",
]

FORMAT = "tensorgrad"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        tensors: arrays by name, each writable and owning its memory.
        meta: the JSON saved with them; empty when another program wrote the file.
    """

    tensors: dict[str, npt.NDArray[Any]]
    meta: dict[str, Any]


def save_checkpoint(
    path: str | os.PathLike[str], tensors: Mapping[str, npt.ArrayLike], meta: Mapping[str, Any]
) -> None:
    """Write arrays and JSON to `path`, which holds the old file or the new one, never a part of either.

    Args:
        path: the file to write, replaced if it exists; its folder must exist.
        tensors: arrays of any shape by name; booleans, integers, float16, float32 or float64.
        meta: JSON values; NaN, infinities and integers of any size come back exactly.

    Raises:
        CheckpointError: a dtype or a value that cannot be stored, or a place that cannot be written. The old
            file is untouched.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "rnn.safetensors")
        >>> save_checkpoint(path, {"W_hh": np.eye(2)}, {"step": 10})
        >>> load_checkpoint(path).meta
        {'step': 10}
    """
    # Following a link first means that the file it points to is replaced, and not the link.
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise CheckpointError(f"cannot save the checkpoint {path}: it is a folder; name a file in it")
    arrays = {name: _storable(name, value) for name, value in tensors.items()}
    try:
        entry = {"format": FORMAT, "version": VERSION, "meta": json.loads(json.dumps(dict(meta)))}
        entry["sha256"] = _digest(arrays, entry["meta"])
        data = _encode(arrays, {FORMAT: json.dumps(entry)})
    except (SafetensorError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot save the checkpoint {path}: {error}") from error
    try:
        _write_whole(target, data)
    except OSError as error:
        reason = f"{error.strerror or error}; nothing was overwritten"
        raise CheckpointError(f"cannot save the checkpoint {path}: {reason}") from error


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint, or any safetensors file, and verify it.

    A file written by `save_checkpoint` carries a SHA-256 of names, shapes, dtypes, values and meta, so that a
    single flipped bit is found. Other programs' files load with an empty `meta`.

    Args:
        path: the file to read.

    Returns:
        A `Checkpoint`; shapes and dtypes are the stored ones.

    Raises:
        CheckpointError: `path` is missing, a folder, empty, damaged, or not a safetensors file; or it holds a
            dtype that NumPy lacks, or was written by a newer tensorgrad.

    Example:
        >>> load_checkpoint("nowhere.safetensors")
        Traceback (most recent call last):
        tensorgrad.errors.CheckpointError: there is no checkpoint nowhere.safetensors
    """
    data = _read_whole(path)
    try:
        tensors = {name: np.array(value) for name, value in _decode(data).items()}
    except KeyError as error:
        raise CheckpointError(
            f"{path} stores a tensor as {error.args[0]}, which NumPy does not have; convert it to F32 first"
        ) from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged, or not a safetensors file: {error}") from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return Checkpoint(tensors, _verified_meta(path, tensors, header.get("__metadata__") or {}))


def check_names(expected: Mapping[str, npt.ArrayLike], found: Mapping[str, npt.ArrayLike], what: str) -> None:
    """Raise unless `found` has exactly the names and shapes of `expected`; call it before assigning anything.

    Args:
        expected: arrays of any shape by name, as the receiver has them.
        found: arrays of any shape by name, as the file has them.
        what: the receiver, for the message, e.g. `"the model"`.

    Raises:
        CheckpointError: names every missing, unexpected and misshapen tensor with its shapes.

    Example:
        >>> check_names({"b": np.zeros(3)}, {"b": np.zeros(4)}, "the cell")
        Traceback (most recent call last):
        tensorgrad.errors.CheckpointError: the checkpoint does not fit the cell: b is (4,) and should be (3,)
    """
    wrong = [f"{name} {np.shape(expected[name])} is missing" for name in expected if name not in found]
    wrong += [f"{name} {np.shape(found[name])} is unexpected" for name in found if name not in expected]
    for name in expected:
        if name in found and np.shape(found[name]) != np.shape(expected[name]):
            wrong.append(f"{name} is {np.shape(found[name])} and should be {np.shape(expected[name])}")
    if wrong:
        raise CheckpointError(f"the checkpoint does not fit {what}: {'; '.join(wrong)}")


def save_weights(path: str | os.PathLike[str], module: Module) -> None:
    """Write the parameters of a module, by name, to a safetensors file that other programs read too.

    What `nn.RNN`, `nn.LSTM`, `nn.GRU`, `nn.Linear` and `nn.Embedding` hold has PyTorch's names and shapes:
    there, `load_state_dict(safetensors.torch.load_file(path))` takes it.

    Args:
        path: the file to write, replaced if it exists; its folder must exist.
        module: any `nn.Module`.

    Raises:
        CheckpointError: a place that cannot be written. The old file is untouched.

    Example:
        >>> import tempfile
        >>> from tensorgrad import nn
        >>> path = os.path.join(tempfile.mkdtemp(), "gru.safetensors")
        >>> save_weights(path, nn.GRU(3, 4, seed=0))
        >>> load_weights(path, nn.GRU(3, 4, seed=1))
    """
    save_checkpoint(path, module.state_dict(), {})


def load_weights(path: str | os.PathLike[str], module: Module) -> None:
    """Set all parameters of a module from a safetensors file, such as one that PyTorch wrote.

    Values are converted to the dtype of each parameter.

    Args:
        path: the file.
        module: has exactly the file's names and shapes.

    Raises:
        CheckpointError: the file is missing or damaged, or a tensor is missing, unexpected or of another
            shape; names every such tensor with the shape found and expected. The module is then unchanged.
    """
    tensors = load_checkpoint(path).tensors
    check_names(module.state_dict(), tensors, f"{type(module).__name__} ({path})")
    module.load_state_dict(tensors)


def rng_state(generator: np.random.Generator) -> dict[str, Any]:
    """The exact state of `generator` as JSON, big integers included.

    Args:
        generator: of any of NumPy's bit generators.

    Returns:
        A JSON object for `set_rng_state`, to be kept in a checkpoint's meta.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> state = rng_state(generator)
        >>> first = generator.random()
        >>> set_rng_state(generator, state)
        >>> generator.random() == first
        True
    """
    state: dict[str, Any] = _as_json(generator.bit_generator.state)
    return state


def set_rng_state(generator: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Put `generator` into a state that `rng_state` returned.

    Args:
        generator: of the same kind of bit generator as the one saved.
        state: what `rng_state` returned, perhaps after a trip through JSON.

    Raises:
        CheckpointError: the state is of another bit generator, or damaged; `generator` is unchanged.

    Example:
        >>> set_rng_state(np.random.default_rng(), rng_state(np.random.Generator(np.random.MT19937(0))))
        Traceback (most recent call last):
        tensorgrad.errors.CheckpointError: the random state is of MT19937, but this generator is PCG64
    """
    current = generator.bit_generator.state
    saved = state.get("bit_generator") if isinstance(state, Mapping) else None
    kind = current["bit_generator"]
    if isinstance(saved, str) and saved != kind:
        raise CheckpointError(f"the random state is of {saved}, but this generator is {kind}")
    try:
        generator.bit_generator.state = _like(current, state)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        generator.bit_generator.state = current
        raise CheckpointError(f"the random state is damaged: {error!r}") from error


def _storable(name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    """`value` as a little-endian array in C order: safetensors writes the bytes as they lie."""
    array = np.asarray(value)
    if name == "__metadata__":
        raise CheckpointError("a tensor cannot be named '__metadata__', a name safetensors keeps for itself")
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise CheckpointError(
            f"tensor {name!r} has dtype {array.dtype}, which a checkpoint cannot store; "
            "convert it to float32, float64, an integer or bool"
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _digest(tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> str:
    sha = hashlib.sha256(json.dumps(meta).encode())
    for name in sorted(tensors):
        array = tensors[name]
        sha.update(f"\n{name!r} {array.dtype.name} {array.shape}\n".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def _verified_meta(
    path: str | os.PathLike[str], tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]
) -> dict[str, Any]:
    text = metadata.get(FORMAT)
    if text is None and not any(f'"format": "{FORMAT}"' in value for value in metadata.values()):
        return {}
    # From here on the file is our own, even if damage has renamed the entry: nothing in it may be amiss.
    damaged = CheckpointError(f"{path} is damaged: its contents do not match the checksum saved with them")
    try:
        entry = json.loads(text or "")
        version, meta, digest = entry["version"], entry["meta"], entry["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged from error
    if isinstance(version, int) and version > VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format {version}, but this tensorgrad reads only up to {VERSION}: "
            "upgrade tensorgrad"
        )
    if entry != {"format": FORMAT, "version": VERSION, "meta": meta, "sha256": digest}:
        raise damaged
    if not isinstance(meta, dict) or digest != _digest(tensors, meta):
        raise damaged
    return meta


def _read_whole(path: str | os.PathLike[str]) -> bytes:
    if os.path.isdir(path):
        raise CheckpointError(f"{path} is a folder, not a checkpoint")
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    if not data:
        raise CheckpointError(f"{path} is empty, not a checkpoint")
    return data


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename: whatever happens, `path` is whole."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            # Without this a power cut could leave the new name on a file whose bytes never reached the disk.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def _like(template: Any, value: Any) -> Any:
    """`value` with arrays where `template` has arrays, its keys, types and shapes checked on the way."""
    if isinstance(template, dict):
        return {key: _like(item, value[key]) for key, item in template.items()}
    if isinstance(template, np.ndarray):
        array = np.array([_like(0, item) for item in value], dtype=template.dtype)
        # NumPy takes longer ones without a word.
        if array.shape != template.shape:
            raise ValueError(f"an array has shape {array.shape} where {template.shape} is needed")
        return array
    if type(value) is not type(template):
        raise TypeError(f"found {value!r} where {type(template).__name__} is needed")
    # NumPy 1 wraps what is out of range.
    if isinstance(value, int) and not 0 <= value < 2**128:
        raise ValueError(f"{value} is out of range")
    return value
