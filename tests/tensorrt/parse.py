"""Lets TensorRT for RTX read an ONNX model as it is; writes the network's tensors and layers, as JSON, to a file.

A process of its own, because a failure in TensorRT can damage the memory of the one it happens in.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from toolkit.engines.tensorrt.build import network_layers, network_tensors, parse_network
from toolkit.engines.tensorrt.library import Target, load_library
from toolkit.engines.tensorrt.messages import new_logger


def main() -> None:
    model, report = map(Path, sys.argv[1:])
    trt = load_library(Target.TENSORRT_RTX)
    builder = trt.Builder(new_logger(trt, sys.stderr))
    network = parse_network(trt, builder, model, Target.TENSORRT_RTX, model)
    values = {"tensors": [asdict(tensor) for tensor in network_tensors(network)], "layers": network_layers(network)}
    report.write_text(json.dumps(values), encoding="utf-8")


if __name__ == "__main__":
    main()
