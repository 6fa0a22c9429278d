"""Whole sequences with state fed back: torch and ONNX Runtime equal the reference implementation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import load_script
from tests.golden_runs import GoldenSequence
from toolkit.bundle import Bundle
from toolkit.cli.sessions import open_session
from toolkit.plugin.manager import PluginManager
from toolkit.reference_interface.replay import replay
from toolkit.reference_interface.tensors import has_no_effect

pytestmark = [pytest.mark.slow, pytest.mark.parity]


@pytest.mark.parametrize("kind", ["onnxruntime", "torch"])
@pytest.mark.parametrize("seed", ["A", "C"])
def test_sequence_equals_the_reference(
    seed: str,
    kind: str,
    golden: Path,
    convert_seed: Callable[[str], Bundle],
    plugins: PluginManager,
) -> None:
    """Every output of every frame: integers identical, floats within the reference's own noise."""
    bundle = convert_seed(seed)
    reference = GoldenSequence.load(golden, seed)
    frames: list[dict[str, np.ndarray]] = load_script(golden / "make_inputs.py").make_inputs(seed)
    official = [{k: v for k, v in frame.items() if not has_no_effect(k)} for frame in frames]
    faults = []
    outputs = replay(bundle, open_session(bundle, kind, plugins), official)
    for number, frame_outputs in enumerate(outputs):
        faults += reference.mismatches(number, frame_outputs)
    assert faults == []
