"""How long the GPU session's network takes to export and rewrite, and to read when it was kept; on the CPU.

python -m benchmarks.kept_network [--precision fp16] [--repeats 3]

CPU time of this process, pseudo-trained weights of UniAD-tiny; torch.compile, which follows both, is left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu_network import pseudo_network
from toolkit.config.model import ModelConfig
from toolkit.engines.gpu.compiled.parts_file import read_parts, write_parts
from toolkit.engines.gpu.compiled.rewrite import rewrite_network
from toolkit.precision import Precision
from toolkit.text import mebibytes

IDENTITY = {"network": "pseudo-trained"}


def main(precision: Precision, repeats: int) -> None:
    """Print the least seconds of each step, and what reading takes of rewriting."""
    torch.set_grad_enabled(False)
    network = pseudo_network(ModelConfig())
    rewritten, written, read = list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "parts.safetensors")
        for _ in range(repeats):
            started = time.process_time()
            parts = rewrite_network(network, precision)
            rewritten.append(time.process_time() - started)
            started = time.process_time()
            write_parts(path, parts, IDENTITY)
            written.append(time.process_time() - started)
            started = time.process_time()
            read_parts(path, IDENTITY, torch.device("cpu"))
            read.append(time.process_time() - started)
        size = mebibytes(path.stat().st_size)
    print(f"export and rewrite {min(rewritten):6.2f} s")
    print(f"write              {min(written):6.2f} s, {size} MiB")
    print(f"read               {min(read):6.2f} s, {min(read) / min(rewritten):.3f} of rewriting")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", type=Precision, choices=list(Precision), default=Precision.FP16)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    main(given.precision, given.repeats)
