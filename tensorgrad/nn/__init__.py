"""Networks: modules, layers, recurrent cells, and unrolling cells over time."""

from tensorgrad.nn import init
from tensorgrad.nn.attention import (
    AdditiveAttention,
    DotProductAttention,
    Memory,
    MultiHeadAttention,
    dot_product_attention,
    sinusoidal_positions,
)
from tensorgrad.nn.cells import (
    CELLS,
    GRUCell,
    IndRNNCell,
    IRNNCell,
    LayerNormLSTMCell,
    LRUCell,
    LSTMCell,
    MGUCell,
    MinGRUCell,
    MinLSTMCell,
    PeepholeLSTMCell,
    RNNCell,
    SLSTMCell,
    make_cell,
)
from tensorgrad.nn.layers import Dropout, Embedding, LayerNorm, Linear
from tensorgrad.nn.module import Module, Parameter
from tensorgrad.nn.recurrent import Recurrent, UnrolledLayers
from tensorgrad.nn.scan import linear_scan
from tensorgrad.nn.stacked import GRU, LSTM, RNN
from tensorgrad.nn.unroll import Unrolled, detach, unroll
from tensorgrad.nn.windows import truncated

__all__ = [
    "AdditiveAttention",
    "DotProductAttention",
    "Memory",
    "MultiHeadAttention",
    "dot_product_attention",
    "sinusoidal_positions",
    "CELLS",
    "Dropout",
    "Embedding",
    "GRU",
    "GRUCell",
    "IRNNCell",
    "IndRNNCell",
    "LRUCell",
    "LSTM",
    "LSTMCell",
    "LayerNorm",
    "LayerNormLSTMCell",
    "Linear",
    "MGUCell",
    "MinGRUCell",
    "MinLSTMCell",
    "Module",
    "Parameter",
    "PeepholeLSTMCell",
    "RNN",
    "RNNCell",
    "Recurrent",
    "SLSTMCell",
    "Unrolled",
    "UnrolledLayers",
    "detach",
    "init",
    "linear_scan",
    "make_cell",
    "truncated",
    "unroll",
]
