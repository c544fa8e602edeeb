"""Networks: modules, layers, recurrent cells, and unrolling cells over time."""

from tensorgrad.nn import init
from tensorgrad.nn.cells import GRUCell, LSTMCell, RNNCell
from tensorgrad.nn.layers import Dropout, Embedding, LayerNorm, Linear
from tensorgrad.nn.module import Module, Parameter
from tensorgrad.nn.unroll import Unrolled, unroll

__all__ = [
    "Dropout",
    "Embedding",
    "GRUCell",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "Module",
    "Parameter",
    "RNNCell",
    "Unrolled",
    "init",
    "unroll",
]
