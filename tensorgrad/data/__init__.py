"""What networks learn from: text, the field's standard tasks, and labelled sequences.

Arrays are time-major, `(T, B)` or `(T, B, features)`.
"""

from tensorgrad.data.labelled import (
    Names,
    holdout,
    minibatches,
    read_names,
    sequential_digits,
)
from tensorgrad.data.pairs import (
    END,
    START,
    Pairs,
    addition,
    addition_vocabulary,
    decode_pairs,
    reversal,
    reversal_vocabulary,
)
from tensorgrad.data.tasks import (
    Batch,
    adding,
    copy_memory,
    parity,
    sine_prediction,
    temporal_order,
)
from tensorgrad.data.text import (
    PAD,
    Vocabulary,
    Windows,
    pad,
    read_text,
    split,
    streams,
)

__all__ = [
    "END",
    "PAD",
    "START",
    "Batch",
    "Names",
    "Pairs",
    "Vocabulary",
    "Windows",
    "adding",
    "addition",
    "addition_vocabulary",
    "copy_memory",
    "decode_pairs",
    "holdout",
    "minibatches",
    "pad",
    "parity",
    "read_names",
    "read_text",
    "reversal",
    "reversal_vocabulary",
    "sequential_digits",
    "sine_prediction",
    "split",
    "streams",
    "temporal_order",
]
