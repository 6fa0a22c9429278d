"""What of the CUDA graph session can be tested without a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toolkit.config import ModelConfig
from toolkit.engines.gpu.frame_graph import UploadedOnce
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.errors import InputError
from toolkit.network import Network, join


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_without_a_gpu_the_session_says_so() -> None:
    with pytest.raises(InputError, match=r"needs a CUDA GPU.*use onnxruntime"):
        CudaGraphSession(Network(join((), ModelConfig())))


def test_a_constant_is_made_once() -> None:
    with UploadedOnce():
        first, second = (torch.zeros(2).new_tensor([1.0, 2.0]) for _ in range(2))
        third, fourth = (torch.tensor((1.0, 2.0)) for _ in range(2))
    assert first is second
    assert third is fourth
    assert first.tolist() == third.tolist() == [1.0, 2.0]


def test_constants_of_other_values_or_types_are_others() -> None:
    with UploadedOnce():
        made = [
            torch.zeros(1).new_tensor([1.0]),
            torch.zeros(1).new_tensor([2.0]),
            torch.zeros(1).int().new_tensor([1]),
        ]
        made.append(torch.zeros(1).new_tensor([1.0], dtype=torch.float64))
    assert [(x.item(), x.dtype) for x in made] == [
        (1.0, torch.float32),
        (2.0, torch.float32),
        (1, torch.int32),
        (1.0, torch.float64),
    ]


def test_arrays_are_no_constants() -> None:
    """Only numbers in the source stay the same from frame to frame."""
    array = np.zeros(2)
    with UploadedOnce():
        before = torch.tensor(array)
        array[:] = 1
        after = torch.tensor(array)
    assert before.tolist() == [0, 0]
    assert after.tolist() == [1, 1]
