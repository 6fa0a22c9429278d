"""What a graph gives may be what it is given next."""

from __future__ import annotations

import torch

from toolkit.engines.gpu.frame_graph import apart


def test_outputs_in_memory_of_inputs_are_copies() -> None:
    inputs = {"now": torch.arange(6), "before": torch.zeros(6)}
    outputs = {"sum": torch.ones(2), "now": inputs["now"], "end": inputs["now"][4:]}
    found = apart(outputs, inputs)
    assert found["sum"] is outputs["sum"]
    inputs["now"].zero_()
    assert found["now"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["end"].tolist() == [4, 5]
