"""Nodes before and after each graph pass, and the time and peak memory of a rewrite.

python -m benchmarks.rewrite bundle/model.onnx
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from benchmarks.conversion import REFERENCE_NODES
from toolkit.cli.console import step
from toolkit.cli.rewrite_tables import show_runs
from toolkit.graph.model_file import model_path, read_model, write_model
from toolkit.graph.pipeline import rewrite
from toolkit.graph.selection import select_passes
from toolkit.plugin.manager import PluginManager


def main() -> None:
    """Rewrite once by the default passes, read and written as the command does it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="ONNX file or bundle folder")
    parser.add_argument("--pass", dest="named", action="append", default=[], help="run these passes instead")
    options = parser.parse_args()
    plugins = PluginManager.load()
    passes = select_passes(plugins.graph_passes(), options.named)
    started = time.perf_counter()
    with step("read"):
        model = read_model(model_path(options.model))
    result = rewrite(model, passes, plugins.custom_ops(), progress=step)
    with tempfile.TemporaryDirectory() as folder, step("write"):
        write_model(result.model, Path(folder) / "model.onnx")
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    show_runs(result.log)
    before, after = len(model.graph.node), len(result.model.graph.node)
    console = Console()
    for finding in result.checks:
        console.print(escape(finding))
    console.print(
        f"{before} nodes before, {after} after ({REFERENCE_NODES / after:.1f} times fewer than the reference export, "
        f"{REFERENCE_NODES}); {seconds:.0f} s, peak memory {peak / 1e9:.1f} GB"
    )


if __name__ == "__main__":
    main()
