"""Time, peak memory and graph size of a conversion with its parity check, on demonstration weights.

python -m benchmarks.conversion
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import onnx
import torch
from rich.console import Console

from toolkit.cli.console import step
from toolkit.config.model import ModelConfig
from toolkit.conversion.convert import convert
from toolkit.demo.pseudo_weights import pseudo_motion_anchors, pseudo_trained_weights
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.wiring import join

REFERENCE_NODES = 25_991


def main() -> None:
    """Convert once and print the figures."""
    plugins, config = PluginManager.load(), ModelConfig()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.pth"
        torch.save({"state_dict": pseudo_trained_weights(Network(join(plugins.submodules(), config)))}, checkpoint)
        assets = {"motion_head.motion_anchors": pseudo_motion_anchors(config)}
        started = time.perf_counter()
        bundle = convert(checkpoint, Path(folder) / "bundle", plugins, config=config, assets=assets, progress=step)
        seconds = time.perf_counter() - started
        nodes = len(onnx.load(bundle.onnx, load_external_data=False).graph.node)
        size = sum(path.stat().st_size for path in bundle.path.iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    Console().print(
        f"conversion {seconds:.0f} s, peak memory {peak / 1e9:.1f} GB, bundle {size / 1e6:.0f} MB, "
        f"{nodes} nodes (reference export: {REFERENCE_NODES}, {REFERENCE_NODES / nodes:.1f}x as many)"
    )


if __name__ == "__main__":
    main()
