"""One arm of a benchmark in a process of its own: `python tools/bench/child.py MODULE FUNCTION JSON`.

`FUNCTION(…, meter=Meter())` of the module does the work, with the JSON as its other arguments. See `meter.py`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

# Before numpy or torch are imported.
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("OMP_NUM_THREADS", "1")


def main(module: str, function: str, given: str) -> None:
    from meter import Meter

    arguments = json.loads(given)
    if "shape" in arguments:
        from shapes import Shape

        arguments["shape"] = Shape(**arguments["shape"])
    if "folder" in arguments:
        arguments["folder"] = Path(arguments["folder"])
    getattr(importlib.import_module(module), function)(**arguments, meter=Meter())


if __name__ == "__main__":
    main(*sys.argv[1:])
