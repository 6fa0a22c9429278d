"""Whether the sessions that run on a GPU can be used."""

from __future__ import annotations

import torch

from toolkit.doctor.check import Check, Status
from toolkit.doctor.packages import is_there
from toolkit.engines.gpu.frame_graph import FrameGraph
from toolkit.engines.gpu.session import require_gpu
from toolkit.engines.onnxruntime_device import require_provider
from toolkit.errors import InputError
from toolkit.text import one_line

PACKAGES = {"triton": "triton", "cupy": "'uniad-toolkit[cuda]'"}
"""What the cuda session imports besides torch, and what to install for it."""


def check_gpu_sessions() -> list[Check]:
    """One check a session; none stands in the way of a conversion."""
    return [check_cuda(), check_onnxruntime_cuda()]


def check_cuda() -> Check:
    """Whether a function can be compiled and captured as a CUDA graph, as the cuda session does with the network."""
    subject = "--session cuda"
    try:
        require_gpu()
    except InputError as error:
        return Check(subject, Status.NOTE, str(error))
    for module, install in PACKAGES.items():
        if not is_there(module):
            return Check(subject, Status.NOTE, f"needs {module}, which is not installed", f"pip install {install}")
    try:
        compiled = torch.compile(lambda x: x.sin() + 1)
        example = {"x": torch.zeros(4, device="cuda")}
        with torch.inference_mode():
            graph = FrameGraph(lambda inputs: {"y": compiled(inputs["x"])}, example)
            result = graph(example)["y"].tolist()
    # Compilers and drivers fail in many ways, and each is a finding.
    except Exception as error:
        remedy = "it takes a C compiler and a driver that suits this torch; torch on GPU, above, may say more"
        return Check(subject, Status.NOTE, f"cannot compile or capture: {one_line(error)}", remedy)
    if result != [1.0] * 4:
        return Check(subject, Status.NOTE, f"a captured function gave {result}", "update torch and the driver")
    return Check(subject, Status.OK, "compiles and captures a function")


def check_onnxruntime_cuda() -> Check:
    """Whether ONNX Runtime is built for CUDA. Only a session shows whether its libraries can be loaded."""
    subject = "--session onnxruntime-cuda"
    try:
        provider, _ = require_provider("cuda")
    except InputError as error:
        return Check(subject, Status.NOTE, str(error))
    return Check(subject, Status.OK, f"{provider} is installed")
