"""One process of a test: joins the others, runs a function of a test's file, leaves what it returns for the test.

python launch.py FILE FUNCTION FOLDER LAYOUT      with RANK, WORLD_SIZE and LOCAL_RANK set, as torchrun sets them
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import torch

from cutaway.train.parallel.fleet import Layout, start


def main(file: str, function: str, folder: str, layout: str) -> None:
    torch.set_num_threads(1)
    root = Path(__file__).resolve().parents[3]
    sys.path.insert(0, str(root))
    module = importlib.import_module(".".join(Path(file).relative_to(root).with_suffix("").parts))
    at = Path(folder)
    fleet = start(Layout(**json.loads(layout)), f"{(at / 'meet').as_uri()}")
    result = getattr(module, function)(fleet, at)
    torch.save(result, at / f"{os.environ['RANK']}.pt")
    fleet.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
