"""tensorgrad: understand, build and check recurrent networks on NumPy.

Names follow NumPy for operations, PyTorch for `nn` and `optim`, JAX for transforms.
"""

from tensorgrad import bptt, functional, nn, ops, optim, tree, viz
from tensorgrad.check.gradcheck import gradcheck
from tensorgrad.compile import Compiled, compile
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
    binary_cross_entropy_with_logits,
    cross_entropy,
    dropout,
    layer_norm,
    log_softmax,
    mse,
    one_hot,
    softmax,
)
from tensorgrad.op import defop
from tensorgrad.ops import *  # noqa: F403 - every operation is public here
from tensorgrad.ops import linalg
from tensorgrad.random import manual_seed
from tensorgrad.recording import detect_anomaly, enable_grad, is_recording, label, no_grad, scope
from tensorgrad.tensor import Tensor, from_dlpack, tensor
from tensorgrad.transforms import checkpoint, custom_vjp, grad, hvp, jacobian, jvp, value_and_grad, vjp

__version__ = "0.1.0"

__all__ = [
    "AnomalyError",
    "CheckpointError",
    "Compiled",
    "DtypeError",
    "GradientError",
    "GraphError",
    "ShapeError",
    "Tensor",
    "TensorgradError",
    "UserError",
    "bptt",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "checkpoint",
    "compile",
    "cross_entropy",
    "custom_vjp",
    "defop",
    "detect_anomaly",
    "dropout",
    "enable_grad",
    "from_dlpack",
    "functional",
    "grad",
    "gradcheck",
    "hvp",
    "is_recording",
    "jacobian",
    "jvp",
    "label",
    "layer_norm",
    "linalg",
    "log_softmax",
    "manual_seed",
    "mse",
    "nn",
    "no_grad",
    "one_hot",
    "ops",
    "optim",
    "scope",
    "softmax",
    "tensor",
    "tree",
    "value_and_grad",
    "viz",
    "vjp",
]
__all__ += ops.__all__
