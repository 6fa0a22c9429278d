"""What cannot be built is refused with a clear message, before TensorRT sees it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from custom_ops.inverse.op import INVERSE
from custom_ops.rotate.op import ROTATE
from tests.tensorrt.cases import CASES, write_model
from tests.tensorrt.stand_in import stand_in_tensorrt
from toolkit.engines.tensorrt.build import capability
from toolkit.engines.tensorrt.model import plugin_ops
from toolkit.engines.tensorrt.rtx import package_folder
from toolkit.errors import InputError
from toolkit.ops.spec import CustomOp

CASE = CASES["Rotate"]


@pytest.mark.parametrize("dynamic", [False, True])
def test_only_ops_that_are_used_become_plugins(tmp_path: Path, dynamic: bool) -> None:
    model = write_model(tmp_path / "model.onnx", CASE, dynamic=dynamic)
    assert plugin_ops(model, [INVERSE, ROTATE], model) == [ROTATE]


def test_op_with_a_body_needs_no_plugin(tmp_path: Path) -> None:
    """TensorRT takes the local function where there is one."""
    model = write_model(tmp_path / "model.onnx", CASE)
    functional = onnx.load(model)
    functional.functions.append(ROTATE.function(CASE.attributes))
    onnx.save(functional, model)
    assert plugin_ops(model, [ROTATE], model) == []


@pytest.mark.parametrize(("overload", "needed"), [("form_1", []), ("form_2", [ROTATE])])
def test_body_of_another_form_is_none(tmp_path: Path, overload: str, needed: list[CustomOp]) -> None:
    """A node calls the function of its own overload."""
    model = write_model(tmp_path / "model.onnx", CASE)
    functional = onnx.load(model)
    functional.graph.node[0].overload = "form_1"
    functional.functions.append(ROTATE.function(CASE.attributes))
    functional.functions[0].overload = overload
    onnx.save(functional, model)
    assert plugin_ops(model, [ROTATE], model) == needed


def test_op_without_a_plugin(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", CASE)
    with pytest.raises(InputError, match=r"model\.onnx uses the custom op 'Rotate' \(node 'the_node'\), which no"):
        plugin_ops(model, [INVERSE], model)


def test_missing_attribute(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", replace(CASE, attributes={}))
    with pytest.raises(InputError, match=r"Required attribute 'interpolation' is missing\..*the_node.*export it again"):
        plugin_ops(model, [ROTATE], model)


def test_wrong_attribute_type(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", replace(CASE, attributes={"interpolation": 1}))
    with pytest.raises(InputError, match="Mismatched attribute type in 'the_node : interpolation'"):
        plugin_ops(model, [ROTATE], model)


def test_wrong_number_of_inputs(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", replace(CASE, inputs={"image": (1, 5, 6)}))
    with pytest.raises(InputError, match="input size 1 not in range"):
        plugin_ops(model, [ROTATE], model)


def test_build_for_another_gpu_needs_tensorrt_for_rtx() -> None:
    with pytest.raises(InputError, match=r"stand_in_tensorrt builds for the GPU at hand alone; use TensorRT for RTX"):
        capability(stand_in_tensorrt(), "8.6")


def test_package_of_tensorrt_for_rtx_is_absent() -> None:
    with pytest.raises(InputError, match=r"no_such_package, which is not installed.*uniad-toolkit\[tensorrt-rtx\]"):
        package_folder("no_such_package")
