"""What a build may write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.bundle import MANIFEST, Bundle
from toolkit.engines.tensorrt.request import BuildRequest
from toolkit.engines.tensorrt.sidecar import log_path
from toolkit.storage.claims import Output, claim_file
from toolkit.storage.onnx_file import model_files


def claim_build(request: BuildRequest, bundle: Bundle | None, inputs: Sequence[Path]) -> None:
    """Raise InputError unless a build may write its files; an engine may lie in its bundle, but replace none of it.

    What else it reads are `inputs`. The process that builds writes the files, and claims them again.
    """
    source = model_files(request.model) if bundle is None else [bundle.path / n for n in (MANIFEST, *bundle.sha256)]
    read = [*source, *inputs]
    claimed: list[Output] = []
    for path in (*request.outputs(), log_path(request.engine)):
        claimed.append(claim_file(path, inputs=read, others=claimed))
