"""`train --compile`: parts of the network are compiled by torch, so that many small operators become few kernels."""

from __future__ import annotations

from toolkit.training.clip_model import ClipModel


def compile_parts(model: ClipModel, backend: str = "inductor") -> int:
    """Compile what the submodules say can be, in place; the number of modules that will be, when they first run.

    Weights keep their names. Sizes that differ from frame to frame, such as the number of tracks, are compiled once
    more as unknown ones.
    """
    modules = [
        module
        for name, training in model.trained.items()
        if training.compiled is not None
        for module in training.compiled(model.network.parts[name])
    ]
    for module in modules:
        module.compile(backend=backend)
    return len(modules)


def is_failed_compilation(error: BaseException) -> bool:
    """Whether an error is that of torch's compiler, or of a tool that it needs."""
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)
