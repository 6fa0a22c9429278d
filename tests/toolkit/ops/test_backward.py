"""Gradients of ops: from their own code, and kernels for them, whose mistakes are found without a GPU."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from custom_ops.inverse.op import INVERSE
from custom_ops.modulated_deformable_convolution.op import MODULATED_DEFORMABLE_CONVOLUTION
from custom_ops.rotate.op import ROTATE
from tests.emulation.emulated_kernel import emulate, needs_compiler, run_on_cpu
from tests.emulation.gradients import emulated_gradients, exact_gradients
from tests.sample_ops.blend import BACKWARD, BLEND
from tests.sample_ops.top_scores import TOP_SCORES
from toolkit.doctor.check import Status
from toolkit.doctor.op_trial import PartFault, Trial, called
from toolkit.doctor.self_test import failed
from toolkit.errors import InputError
from toolkit.ops import cuda, gradient
from toolkit.ops.cuda import launch_backward
from toolkit.ops.gradient import register_gradient
from toolkit.ops.kernel import Kernel, Launch
from toolkit.ops.spec import CustomOp

needs_nvrtc = pytest.mark.skipif(
    importlib.util.find_spec("cuda.bindings") is None, reason="needs pip install 'uniad-toolkit[cuda]'"
)
MAPS = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])]
HEIGHT = torch.tensor([0.5, -1.0])


@pytest.mark.parametrize("op", [ROTATE, INVERSE, MODULATED_DEFORMABLE_CONVOLUTION, BLEND], ids=lambda op: op.name)
def test_gradients_are_those_of_differences(op: CustomOp) -> None:
    """In float64, for the op's example; so of tensors in a list."""
    assert op.example is not None
    inputs, attributes = op.signature.bind(op.example(), {})
    given = [x.double().requires_grad_() for x in inputs if x is not None]

    def call(*tensors: Tensor) -> Tensor:
        left = iter(tensors)
        [output] = called(op, [None if x is None else next(left) for x in inputs], attributes)
        return output

    with torch.enable_grad():
        assert torch.autograd.gradcheck(call, given, fast_mode=True)


def test_what_needs_no_gradient_gets_none() -> None:
    first, second = MAPS[0].clone().requires_grad_(), MAPS[1].clone()
    with torch.enable_grad():
        BLEND.torch_op([first, second], None, [0.25, 0.75], HEIGHT, 1.0, negate=True).sum().backward()
    assert first.grad is not None
    assert first.grad.tolist() == [-0.125, 0.25]
    assert second.grad is None


def test_mixed_precision_computes_in_fp32() -> None:
    maps = [x.bfloat16().requires_grad_() for x in MAPS]
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
        blended = BLEND.torch_op(maps, None, [0.25, 0.75], HEIGHT)
        blended.sum().backward()
    assert blended.dtype == torch.float32
    assert maps[0].grad is not None
    assert maps[0].grad.dtype == torch.bfloat16


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("bias", [None, torch.tensor([1.0, -1.0])], ids=["left out", "given"])
def test_kernel_of_lists_and_optional_tensors(bias: Tensor | None, dtype: torch.dtype) -> None:
    inputs = [*(x.to(dtype) for x in MAPS), None if bias is None else bias.to(dtype), HEIGHT]
    attributes = {"weights": [0.25, 0.75], "scale": 2.0, "negate": True}
    gradient = torch.tensor([1.0, -3.0], dtype=dtype)
    found = emulated_gradients(BLEND, inputs, attributes, gradient)
    expected = exact_gradients(BLEND, inputs, attributes, gradient)
    assert [x.tolist() for x in found] == [x.tolist() for x in expected]


@needs_compiler
def test_launch_hands_over_inputs_and_gradients_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, but for where it runs: inputs laid out in any way, an optional one left out, gradients of a sum."""

    def run(kernel: Kernel, launch: Launch, pointers: list[int], device: int, stream: int, outputs: int) -> None:
        run_on_cpu(kernel, launch, pointers, outputs)

    monkeypatch.setattr(cuda, "run_kernel", run)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    attributes = {"weights": [0.25, 0.75], "scale": 2.0, "negate": False}
    inputs = [torch.stack((x, x), 1).half()[:, 0] for x in MAPS] + [None, HEIGHT]
    gradient = torch.ones((), dtype=torch.float16).expand(2)
    first, second, bias, height = launch_backward(BLEND, inputs, attributes, [gradient])
    assert bias is None
    expected = exact_gradients(BLEND, inputs, attributes, gradient)
    for actual, wanted in zip((first, second, height), expected, strict=True):
        assert actual is not None
        assert actual.tolist() == wanted.tolist()
    assert first is not None
    assert first.dtype == torch.float16


@pytest.mark.slow
def test_a_compiler_leaves_the_kernel_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It traces with tensors that have no memory; the kernel gets those that have, and inputs that are left out."""
    launched = []

    def launch(
        op: CustomOp, inputs: list[Tensor | None], attributes: dict[str, Any], gradients: list[Tensor]
    ) -> list[Tensor | None]:
        launched.append([None if x is None else x.data_ptr() for x in (*inputs, *gradients)])
        (first, second, _, height), (left, right), [incoming] = inputs, attributes["weights"], gradients
        outer = -attributes["scale"] * incoming
        return [left * height * outer, right * height * outer, None, (left * first + right * second) * outer]

    monkeypatch.setattr(gradient, "takes_kernel", lambda x: True)
    monkeypatch.setattr(gradient, "launch_backward", launch)

    def blended(first: Tensor, second: Tensor, height: Tensor) -> Tensor:
        result: Tensor = 2 * BLEND.torch_op([first * 1.0, second], None, [0.25, 0.75], height, 3.0, negate=True)
        return result

    found = []
    for function in (blended, torch.compile(blended, backend="aot_eager", fullgraph=True)):
        leaves = [x.clone().requires_grad_() for x in (*MAPS, HEIGHT)]
        with torch.enable_grad():
            function(*leaves).sum().backward()
        found.append([None if x.grad is None else x.grad.tolist() for x in leaves])
    assert found[0] == found[1]
    assert None not in found[0]
    assert [[x is None for x in pointers] for pointers in launched] == [[False, False, True, False, False]] * 2


def fault_of(backward: Kernel, op: CustomOp = BLEND) -> PartFault:
    """What `doctor` finds of the op with another backward kernel."""
    with pytest.raises(PartFault) as fault:
        Trial.of(replace(op, backward=backward)).examine()
    return fault.value


SIGNATURE_MISTAKE = "takes 9 parameters, but its launch gives 10: inputs 5, integers of the plan 1, outputs 4"
MISTAKES: dict[str, tuple[dict[str, str], str]] = {
    "another name": (
        {"void blend_backward": "void blend_gradients"},
        "has no entry point 'blend_backward'; it has blend_gradients",
    ),
    "no gradient of the output": ({" const SCALAR* gradient,": "", "gradient[i])": "bias[i])"}, SIGNATURE_MISTAKE),
    "no gradient of an input": (
        {"float* first_gradient, float* second_gradient": "float* first_gradient", "  second_gradient[i]": "//"},
        SIGNATURE_MISTAKE,
    ),
    "a missing semicolon": ({"if (i >= count) return;": "if (i >= count) return"}, "expected a"),
}


@needs_nvrtc
@pytest.mark.parametrize(("changes", "found"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_in_the_kernel(changes: dict[str, str], found: str, tmp_path: Path) -> None:
    """One line that names the file, and what to mend."""
    text = BACKWARD.source.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    kernel = Kernel(tmp_path / "blend_backward.cu", BACKWARD.entry, BACKWARD.plan)
    kernel.source.write_text(text, encoding="utf-8")
    fault = fault_of(kernel)
    assert fault.part == "blend_backward.cu"
    assert found in str(fault)
    check = failed(replace(BLEND, backward=kernel), fault, ())
    assert check.status is Status.FAILED
    assert check.remedy == f"mend {kernel.source}, or plan in {Path(__file__).parents[2] / 'sample_ops/blend.py'}"


def test_kernel_without_a_gradient_of_the_operator() -> None:
    """`register_gradient` was forgotten."""
    fault = fault_of(BACKWARD, TOP_SCORES)
    assert fault.part == "register_gradient"
    assert "no autograd formula was registered" in str(fault)


def test_plan_that_fails() -> None:
    def plan(*arguments: Any) -> Launch:
        raise KeyError("rows")

    fault = fault_of(Kernel(BACKWARD.source, BACKWARD.entry, plan))
    assert (fault.part, str(fault)) == ("backward.plan", "KeyError: 'rows'")


def test_kernel_that_does_not_exist() -> None:
    with pytest.raises(InputError, match=r"op 'Blend': its kernel .*nowhere\.cu does not exist; put the file there"):
        replace(BLEND, backward=Kernel(Path("nowhere.cu"), "nowhere", BACKWARD.plan))


WRITES_BEYOND = """
#include <cuda_fp16.h>
extern "C" __global__ void beyond(const float* x, int count, float* y) { y[count + threadIdx.x] = x[0]; }
"""
WAITS_FOR_EVER = """
#include <cuda_fp16.h>
extern "C" __global__ void beyond(const float* x, int count, float* y) { if (threadIdx.x == 0) __syncwarp(); }
"""


@needs_compiler
@pytest.mark.parametrize(
    ("text", "found"), [(WRITES_BEYOND, "writes beyond an array"), (WAITS_FOR_EVER, "never come")], ids=["end", "wait"]
)
def test_emulation_finds(text: str, found: str, tmp_path: Path) -> None:
    """What would be a fault, or a standstill, on a GPU."""
    source = tmp_path / "kernel.cu"
    source.write_text(text, encoding="utf-8")
    launch = Launch({}, (2,), (1, 1, 1), 32)
    kernel = Kernel(source, "beyond", lambda *_: launch)
    with pytest.raises(AssertionError, match=found):
        emulate(kernel, launch, [HEIGHT.numpy()], [HEIGHT.numpy()])


def test_register_gradient_takes_ops_without_a_kernel() -> None:
    """Their own code is all that it takes."""

    @torch.library.custom_op("uniad_tests::halved", mutates_args=())
    def halved(x: Tensor) -> Tensor:
        return x / 2

    register_gradient(CustomOp("Halved", halved, lambda attributes: ""))
    x = torch.ones(2, requires_grad=True)
    with torch.enable_grad():
        halved(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.5, 0.5]
