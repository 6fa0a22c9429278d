"""A sidecar for tests."""

from __future__ import annotations

from toolkit.engines.tensorrt.sidecar import EngineTensor, RequiredPlugin, Sidecar


def sidecar() -> Sidecar:
    """Of an engine that is the file with the text "engine"."""
    return Sidecar(
        sha256="ed9f6f25068608efd412958da4dfc19328ca3511251fa6d5f9c42baf230e32f8",
        bytes=6,
        onnx={"model.onnx": "1" * 64},
        target="tensorrt-rtx",
        version="1.2.3",
        capabilities=("8.6", "8.9"),
        precision="fp16",
        custom_ops="plugin",
        tensors=(
            EngineTensor("image", "input", "float32", (6, 3, -1, 416)),
            EngineTensor("plan", "output", "float32", (6, 2)),
        ),
        plugins=(RequiredPlugin("Rotate", "custom_ops.plugin", 1),),
        layers={"CONVOLUTION": 2, "PLUGIN_V3": 1},
        seconds=1.5,
        peak_mib=2048,
        toolkit="uniad-toolkit 0.1.0",
        checks=("nothing to compare",),
    )
