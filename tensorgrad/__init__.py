"""tensorgrad: understand, build and check recurrent networks on NumPy.

Names follow NumPy for operations, PyTorch for `nn` and `optim`, JAX for transforms.
"""

from tensorgrad import functional, nn, ops, optim, tree
from tensorgrad.check.gradcheck import gradcheck
from tensorgrad.errors import (
    AnomalyError,
    CheckpointError,
    DtypeError,
    GradientError,
    GraphError,
    ShapeError,
    TensorgradError,
    UserError,
)
from tensorgrad.functional import (
    binary_cross_entropy,
    cross_entropy,
    dropout,
    layer_norm,
    log_softmax,
    mse,
    one_hot,
    softmax,
)
from tensorgrad.op import defop
from tensorgrad.ops import linalg
from tensorgrad.ops.elementwise import (
    abs,
    add,
    astype,
    clip,
    cos,
    divide,
    equal,
    exp,
    expm1,
    greater,
    greater_equal,
    isfinite,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    reciprocal,
    relu,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from tensorgrad.ops.index import getitem, index_add, index_update, take, take_along_axis
from tensorgrad.ops.linalg import dot, einsum, matmul, outer, trace
from tensorgrad.ops.reduce import cumsum, logsumexp, max, mean, min, prod, std, sum, var
from tensorgrad.ops.shape import (
    broadcast_to,
    concatenate,
    expand_dims,
    flip,
    pad,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    transpose,
)
from tensorgrad.random import manual_seed
from tensorgrad.recording import detect_anomaly, enable_grad, is_recording, label, no_grad, scope
from tensorgrad.tensor import Tensor, from_dlpack, tensor
from tensorgrad.transforms import checkpoint, custom_vjp, grad, hvp, jacobian, jvp, value_and_grad, vjp

__version__ = "0.1.0"
