"""The processes and devices that train together, through Lightning Fabric: one, or those that `torchrun` started."""

from __future__ import annotations

import os
from enum import StrEnum
from inspect import signature
from typing import TYPE_CHECKING, Any

from toolkit.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOST = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL")
"""What errors say that come of a connection to another process."""
INSTALL = "pip install 'uniad-toolkit[training]'"


class TrainingPrecision(StrEnum):
    """In what a network is computed while it is trained; its weights are FP32."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"


def make_fabric(precision: TrainingPrecision, device: str) -> Fabric:
    """Fabric on all processes of the run; it joins those that `torchrun` started.

    Processes that are more than the GPUs share these: one process of a small network leaves most of a GPU idle.
    `device` is "auto", "cpu" or "cuda". Raises InputError if Fabric is absent, or the device.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise InputError(f"training needs Lightning Fabric; {INSTALL}") from error
    import logging

    import torch
    from torch.nn.parallel import DistributedDataParallel

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: there is no CUDA device here, or PyTorch is a build without CUDA")
    if precision is TrainingPrecision.TF32:
        torch.set_float32_matmul_precision("high")
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    gpus = 0 if device == "cpu" else torch.cuda.device_count()
    shared = 0 < gpus < local
    ways: dict[str, Any] = {}
    if shared:  # which NCCL refuses
        devices = [torch.device("cuda", number % gpus) for number in range(local)]
        ways = {"parallel_devices": devices, "process_group_backend": "gloo"}
    # What a clip does not concern, such as the heads of a map without elements, has no gradient in it.
    strategy: Any = "auto"
    if world > 1:
        named = signature(DistributedDataParallel).parameters
        # Its name before torch 2.13 was another.
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in named else "broadcast_buffers"
        ways[buffers] = False
        strategy = DDPStrategy(find_unused_parameters=True, **ways)
    fabric = Fabric(
        accelerator=device,
        strategy=strategy,
        devices=gpus if shared else local,
        num_nodes=max(1, world // local),
        precision="bf16-mixed" if precision is TrainingPrecision.BF16 else "32-true",
    )
    fabric.launch()
    return fabric


def is_dead_process(error: BaseException) -> bool:
    """Whether an error comes of another process of the run that is gone."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    return isinstance(error, distributed.DistError) or any(sign in str(error) for sign in LOST)
