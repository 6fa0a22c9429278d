"""Imports what commands import when they need it; a process that is forked from one that has it starts at once."""

import importlib

MODULES = (
    "cv2",
    "joblib",
    "matplotlib.pyplot",
    "onnx_graphsurgeon",
    "onnxruntime",
    "onnxscript",
    "onnxscript.optimizer",
    "rich.progress",
    "safetensors.torch",
    "torch",
    "torch.export",
    "torch.onnx",
    "toolkit.cli.application",
    "toolkit.conversion.convert",
    "toolkit.data.nuscenes.dataroot",
    "toolkit.demo.demo",
    "toolkit.graph.pipeline",
    "toolkit.verification.verify",
)

for module in MODULES:
    importlib.import_module(module)
