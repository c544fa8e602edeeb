"""A process that holds one object and calls its methods when asked.

It is started by ``python -m benchmarks.worker MODULE:CLASS``. Lines of JSON come in by standard input and go
out by standard output. The first line holds the arguments of the class, every other one
``{"method": ..., "arguments": {...}}``; the answers are ``{"result": ...}`` or ``{"error": ...}``. The
process ends when its input does.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any


def main() -> None:
    # Libraries print as they like: their standard output goes to standard error, away from the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    module, _, name = sys.argv[1].partition(":")
    held: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if held is None:
                held = getattr(importlib.import_module(module), name)(**request)
                answer: dict[str, Any] = {"result": None}
            else:
                answer = {"result": getattr(held, request["method"])(**request["arguments"])}
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
