"""Builds engines of ONNX models with TensorRT for RTX, and writes the layers that the builder made of them, as JSON.

A process of its own, because a failure in TensorRT can damage the memory of the one it happens in. Arguments: the file
to write, compute capabilities by comma, and models.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from toolkit.engines.tensorrt.build import capability, parse_network, set_capabilities
from toolkit.engines.tensorrt.library import Target, load_library
from toolkit.ops.tensorrt_plugin import with_bases

LAYER = re.compile(
    r"^Name: .*?, LayerType: (\w+), Inputs: \[(.*?)\], (?:Constants|Outputs): .*?Metadata: (.*)$", re.MULTILINE
)


class LayerLog:
    """Keeps the message in which the builder lists the layers of an engine; `ILogger`."""

    def __init__(self) -> None:
        self.listed = ""

    def log(self, severity: Any, msg: str) -> None:
        if msg.startswith("Layers:"):
            self.listed = msg
        if "ERROR" in severity.name:
            print(msg, file=sys.stderr)


def main() -> None:
    report, capabilities, *models = sys.argv[1:]
    trt = load_library(Target.TENSORRT_RTX)
    found = {Path(model).stem: layers_of(trt, Path(model), capabilities.split(",")) for model in models}
    Path(report).write_text(json.dumps(found), encoding="utf-8")


def layers_of(trt: ModuleType, model: Path, capabilities: list[str]) -> list[dict[str, object]]:
    """Kind, types of inputs, and nodes of each layer of an engine."""
    logger = with_bases(LayerLog, trt.ILogger)()
    builder = trt.Builder(logger)
    network = parse_network(trt, builder, model, Target.TENSORRT_RTX, model)
    config = builder.create_builder_config()
    set_capabilities(config, [capability(trt, name) for name in capabilities])
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if builder.build_serialized_network(network, config) is None:
        raise SystemExit(f"{model} cannot be built")
    return [
        {
            "kind": kind,
            "inputs": re.findall(r"Datatype: (\w+)", inputs),
            "nodes": re.findall(r"ONNX Layer: ([^\]]+)", metadata),
        }
        for kind, inputs, metadata in LAYER.findall(logger.listed)
    ]


if __name__ == "__main__":
    main()
