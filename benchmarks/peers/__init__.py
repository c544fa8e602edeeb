"""One module per peer, each imported in its own process only.

Every module defines ``prepare(problem) -> Step``.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """Names of a peer: its module here, how tables call it, what it imports and what pip calls that."""

    name: str
    label: str
    requires: str
    distribution: str

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.requires) is not None


PEERS = {
    peer.name: peer
    for peer in (
        Peer("handwritten", "hand-written NumPy", "numpy", "numpy"),
        Peer("tensorgrad_eager", "tensorgrad, eager", "tensorgrad", "tensorgrad-rnn"),
        Peer("torch_unrolled", "PyTorch, cell unrolled", "torch", "torch"),
        Peer("torch_rnn", "PyTorch nn.RNN", "torch", "torch"),
        Peer("jax_scan", "JAX, jit and scan", "jax", "jax"),
        Peer("hips_autograd", "HIPS autograd", "autograd", "autograd"),
        Peer("mygrad_eager", "MyGrad", "mygrad", "mygrad"),
    )
}
