"""Tests of this folder need a CUDA GPU with CuPy; elsewhere they skip."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/gpu" in str(item.path):
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA GPU; run with one: python -m pytest tests/gpu"))


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """New tensors hold NaN, so that an output of which a kernel leaves an element out is seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3, device="cuda").isnan().all()
    assert torch.ones(3, device="cuda").new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
