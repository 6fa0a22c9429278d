"""The test models that come with the onnx package, with their inputs and the outputs that ONNX states for them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
"""Well-known networks without their weights."""


@dataclass(frozen=True)
class SuiteCase:
    """A model with values for its inputs and outputs, in their order, and the tolerances that the suite has for it."""

    name: str
    model: ModelProto
    inputs: list[Any]
    outputs: list[Any]
    rtol: float
    atol: float


def suite_cases() -> Iterator[SuiteCase]:
    """All cases that need no download."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, about infinities that cases are meant to have
        cases = [case for kind in ("node", "simple", "pytorch-converted", "pytorch-operator") for case in kind_of(kind)]
    yield from cases
    for path in sorted(LIGHT.glob("*.onnx")):
        model = onnx.load(path)
        [output] = model.graph.output
        yield SuiteCase(
            path.stem,
            model,
            [Runner.generate_dummy_data(value) for value in own_inputs(model)],
            [read_value(path.with_name(f"{path.stem}_output_0.pb"), output)],
            rtol=1e-3,
            atol=1e-5,
        )


def kind_of(kind: str) -> Iterator[SuiteCase]:
    """The cases of one kind: of single operators, each with the operator's function in its place too; and of more."""
    for case in load_model_tests(kind=kind):
        if case.model is not None:
            assert case.data_sets
            inputs, outputs = (list(map(plain, values)) for values in case.data_sets[0])
            yield SuiteCase(case.name, case.model, inputs, outputs, case.rtol, case.atol)
            continue
        assert case.model_dir
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        values = folder / "test_data_set_0"
        inputs = [read_value(values / f"input_{n}.pb", value) for n, value in enumerate(own_inputs(model))]
        outputs = [read_value(values / f"output_{n}.pb", value) for n, value in enumerate(model.graph.output)]
        yield SuiteCase(case.name, model, inputs, outputs, case.rtol, case.atol)


def own_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """The inputs of a model that have no value in it."""
    stored = {weight.name for weight in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def read_value(path: Path, described: ValueInfoProto) -> Any:
    """An array, or a list of them for a sequence."""
    data = path.read_bytes()
    if described.type.HasField("sequence_type"):
        return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(data))


def plain(value: Any) -> Any:
    """A value as arrays; the suite writes some as messages or scalars."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if value is None or isinstance(value, list | tuple):
        return value and [plain(entry) for entry in value]
    return np.asarray(value)
