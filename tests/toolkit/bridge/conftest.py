"""The file of `uniad-toolkit bridge`, as a training environment has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.conftest import load_script
from toolkit.bridge.assemble import assemble


@pytest.fixture(scope="session")
def bridge_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bridge") / "uniad_bridge.py"
    path.write_text(assemble(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def bridge(bridge_file: Path) -> ModuleType:
    """The file, imported."""
    return load_script(bridge_file)


@pytest.fixture(autouse=True)
def arithmetic() -> Iterator[None]:
    """Restores what the bridge sets for the whole process."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    yield
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before
