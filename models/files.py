"""Models in files: each is built again from its weights and from how it was made.

A model says how it was made, `config`, and how that is read and checked. The rest is the same for all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from tensorgrad import nn
from tensorgrad.errors import CheckpointError
from tensorgrad.io import Checkpoint, check_names, load_checkpoint, save_checkpoint

__all__ = ["TRAINING", "Saved"]

M = TypeVar("M", bound="Saved")

TRAINING = "training."
"""What a file may hold beside the model, its training, has names that begin so."""


class Saved(nn.Module):
    """A model that is kept in a safetensors file, with all that is needed to build it again."""

    def config(self) -> dict[str, Any]:
        """The arguments, beside the seed, that make such a model; JSON values."""
        raise NotImplementedError

    @classmethod
    def arguments(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that a config stands for: the way back from JSON, where there is one to go.

        Raises:
            CheckpointError: a part of it is damaged.
        """
        return dict(config)

    @classmethod
    def check_config(cls, arguments: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        """Raise CheckpointError unless the weights are of the size that the arguments claim.

        It is asked before a model is made: a wrong claim could ask for any amount of memory.
        """
        raise NotImplementedError

    @classmethod
    def class_called(cls, name: Any) -> Any:
        """The class that a file names, if it is one that is wanted here; else None."""
        return cls if name == cls.__name__ else None

    def to_checkpoint(self) -> Checkpoint:
        """All that is needed to build the model again: its weights, and how it was made."""
        return Checkpoint(self.state_dict(), {"model": type(self).__name__, "config": self.config()})

    @classmethod
    def from_checkpoint(cls: type[M], checkpoint: Checkpoint, source: str = "the checkpoint") -> M:
        """The model that `to_checkpoint` described, whatever of its training stands beside it.

        Args:
            checkpoint: what `to_checkpoint` returned or `load_checkpoint` read.
            source: what to call it in errors, such as the file's name.

        Raises:
            CheckpointError: it is of another model, or its parts do not fit one another.
        """
        meta = checkpoint.meta
        kind = cls.class_called(meta.get("model"))
        if kind is None:
            what = f"is of the model {meta['model']!r}" if "model" in meta else "does not name its model"
            raise CheckpointError(f"{source} {what}; {cls._needed()} is needed here")
        weights = {name: a for name, a in checkpoint.tensors.items() if not name.startswith(TRAINING)}
        config = meta.get("config")
        try:
            if not isinstance(config, dict):
                raise CheckpointError("it does not say how the model was made")
            arguments = kind.arguments(config)
            kind.check_config(arguments, weights)
            # A seed, so that the weights that are thrown away take nothing from the package's generator.
            model: M = kind(**arguments, seed=0)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{source} is damaged: {error}") from error
        made = model.state_dict()
        check_names(made, weights, f"the {kind.__name__} it describes ({source})")
        for name, array in made.items():
            if weights[name].dtype != array.dtype:
                found = f"{name} is {weights[name].dtype} and should be {array.dtype}"
                raise CheckpointError(f"{source} is damaged: {found}")
        model.load_state_dict(weights)
        return model

    @classmethod
    def _needed(cls) -> str:
        """What is needed, with its article; a family of models has a noun of its own."""
        noun = vars(cls).get("noun", cls.__name__)
        return f"{'an' if noun[0] in 'AEIOU' else 'a'} {noun}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file: the old file or the new one, never a part of either.

        Args:
            path: the file, replaced if it exists.

        Raises:
            CheckpointError: the place cannot be written.
        """
        parts = self.to_checkpoint()
        save_checkpoint(path, parts.tensors, parts.meta)

    @classmethod
    def load(cls: type[M], path: str | os.PathLike[str]) -> M:
        """Read a model that `save` wrote.

        Args:
            path: the file.

        Raises:
            CheckpointError: the file is missing, damaged or of another model.

        Example:
            >>> import tempfile
            >>> from tensorgrad.models.seq2seq import Seq2Seq
            >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
            >>> Seq2Seq(13, 13, hidden=8).save(path)
            >>> Seq2Seq.load(path).hidden
            8
        """
        return cls.from_checkpoint(load_checkpoint(path), str(path))
