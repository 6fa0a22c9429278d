"""Whatever module a plugin brings is compiled for the GPU, or ends in one line that names its submodule."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError
from torch.fx import GraphModule

from tests.toolkit.small_network import SMALL
from toolkit.config.model import ModelConfig
from toolkit.engines.gpu.compiled.failures import compiling
from toolkit.engines.gpu.compiled.network import CompiledPart, compile_network, compile_submodule
from toolkit.errors import InputError
from toolkit.network import Network, example_inputs
from toolkit.ops.template.op import new_op
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.specs import Submodule, TensorSpec, frame_input
from toolkit.wiring import join

pytestmark = pytest.mark.thorough

OURS = torch.ops.uniad_gpu
ROTATION = {"l2g_rotation": torch.tensor([[1.0, -2, 3], [0, 5, -6], [7, 8, 9]])}


class Plugin(nn.Module):
    """A function of the LiDAR's rotation [3, 3] and of layers."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, rotation: Tensor) -> Tensor:
        return self.function(rotation, *self.layers)


def network(function: Callable[..., Tensor], *layers: nn.Module) -> Network:
    """Of one submodule, whose only output is `answer` [3, 3]."""
    submodule = Submodule(
        name="theirs",
        checkpoint_prefixes=("",),
        inputs=(frame_input("l2g_rotation"),),
        outputs=(TensorSpec("answer", (3, 3), "float32", "made up"),),
        build=lambda config: Plugin(function, *layers),
        results=("answer",),
    )
    return Network(join([submodule], ModelConfig()))


def check(plugin: Network, precision: Precision = Precision.FP32) -> None:
    """The compiled network gives what the eager one gives, twice."""
    compiled = compile_network(plugin, precision, inductor=False)
    for scale in (1, 2):
        inputs = {name: scale * tensor for name, tensor in ROTATION.items()}
        torch.testing.assert_close(compiled(inputs), plugin({name: x.clone() for name, x in inputs.items()}))


def in_its_type(rotation: Tensor, layer: nn.Module) -> Tensor:
    """Calls the layer between changes of type."""
    image = rotation.repeat(11, 11)[:32, :32].expand(1, 32, 32, 32)
    out: Tensor = layer(image.to(next(layer.parameters()).dtype))
    return out[0, 0, :3, :3].float()


def test_a_submodule_without_weights() -> None:
    check(network(lambda rotation: rotation.T + 1))


def test_a_submodule_without_inputs() -> None:
    """What it gives depends on weights alone."""

    class Weights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.arange(9.0).reshape(3, 3))

        def forward(self) -> Tensor:
            return self.weight.T + 1

    alone = replace(network(torch.add).graph.submodules[0], inputs=(), build=lambda config: Weights())
    plugin = Network(join([alone], ModelConfig()))
    (part,) = compile_submodule(plugin, plugin.graph.submodules[0], Precision.FP32, inductor=False)
    torch.testing.assert_close(part({}), plugin({}))


def test_a_custom_op_of_its_own() -> None:
    """As `new-op` writes it."""
    check(network(lambda rotation: new_op(rotation.T, 1.5)))


def test_the_planner_of_the_documentation() -> None:
    """It replaces the official one; its inputs come from elsewhere in the network."""
    plugins = PluginManager.load([Path(__file__).parents[4] / "docs/examples/straight_planner.py"])
    whole = Network(join(plugins.submodules(), SMALL))
    (planner,) = (s for s in whole.graph.submodules if s.name == "straight_planner")
    (part,) = compile_submodule(whole, planner, Precision.FP32, inductor=False)
    tensors = dict(zip(part.inputs, example_inputs(whole.graph.inputs_of(planner), SMALL), strict=True))
    for name in ("motion_trajectories", "motion_log_probs"):
        tensors[name].normal_()
    torch.testing.assert_close(part(tensors), whole.run_submodule(planner, tensors))


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("layer", [nn.Linear(32, 32), nn.Conv2d(32, 32, 1)], ids=["linear", "convolution"])
def test_layers_of_other_types_stay_as_they_are(layer: nn.Module, dtype: torch.dtype, precision: Precision) -> None:
    """The kernels take FP32 tensors."""
    own = layer.to(dtype)
    plugin = network(in_its_type, own)
    (part,) = compile_submodule(plugin, plugin.graph.submodules[0], precision, inductor=False)
    assert isinstance(part.function, GraphModule)
    assert not {OURS.linear.default, OURS.conv2d.default} & {node.target for node in part.function.graph.nodes}
    check(plugin, precision)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_attention_of_other_types_stays_as_it_is(dtype: torch.dtype) -> None:
    def attend(rotation: Tensor) -> Tensor:
        rows = rotation.repeat(1, 11)[None, :, :32].to(dtype)
        logits = rows * 0.1 @ rows.transpose(-1, -2)
        return (logits.softmax(-1) @ rows)[0, :, :3].float()

    check(network(attend), Precision.FP16)


def test_products_of_integers_stay_integers() -> None:
    check(network(lambda rotation: (rotation.int() @ rotation.int().T // 2).float()))


def test_a_convolution_of_one_image_without_a_batch() -> None:
    def convolve(rotation: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
        out: Tensor = second(first(rotation.expand(32, 3, 3)))
        return out[0]

    check(network(convolve, nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 3, padding=1)))


def test_writing_in_place() -> None:
    """Two tensors of zeros are not one, and neither keeps what was added in the frame before."""

    def write(rotation: Tensor) -> Tensor:
        first, second, copied = torch.zeros(3, 3), torch.zeros(3, 3), rotation.clone()
        first[1:] += rotation[1:]
        copied.mul_(2)
        return first - second + copied + rotation

    check(network(write))


def test_state_of_its_own_is_refused() -> None:
    """A scene could not be started anew."""

    def count(rotation: Tensor, counter: nn.BatchNorm1d) -> Tensor:
        assert counter.running_mean is not None
        return rotation + counter.running_mean.add_(1)

    plugin = network(count, nn.BatchNorm1d(1))
    with pytest.raises(InputError, match=r"submodule 'theirs' .*writes into 'layers.0.running_mean'.*StateSpec"):
        compile_network(plugin, Precision.FP32, inductor=False)
    with pytest.raises(InputError, match="writes into 'rotation'"):
        compile_network(network(lambda rotation: rotation.add_(1) * 2), Precision.FP32, inductor=False)


@pytest.mark.parametrize(
    "function",
    [
        lambda rotation: rotation * rotation.sum().item(),
        lambda rotation: rotation[rotation > 0].sum() * rotation,
        lambda rotation: rotation * rotation.nonzero().shape[0],
    ],
    ids=["a number", "a selection", "a count"],
)
def test_values_that_decide_what_is_computed_are_refused(function: Callable[..., Tensor]) -> None:
    with pytest.raises(InputError, match=r"'theirs' cannot be compiled.*depends on values; compute with"):
        compile_network(network(function), Precision.FP32, inductor=False)


def test_what_cannot_be_exported_is_named() -> None:
    """A decision that depends on data, and an error of the plugin's own."""
    undecided = network(lambda rotation: rotation if rotation.sum() > 0 else -rotation)
    with pytest.raises(InputError, match=r"^submodule 'theirs' cannot be compiled for the GPU: .*; correct its plugin"):
        compile_network(undecided, Precision.FP32, inductor=False)
    with pytest.raises(InputError, match=r"'theirs' cannot be compiled for the GPU: AttributeError: .*'missing'"):
        compile_network(network(lambda rotation: rotation.missing), Precision.FP32, inductor=False)


def test_what_torch_cannot_compile_is_named_at_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(module: GraphModule, examples: list[Tensor]) -> Callable[..., object]:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one")

    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **_: compile_with(module, backend=backend))
    compiled = compile_network(network(lambda rotation: rotation + 1), Precision.FP32)
    with pytest.raises(
        InputError, match=r"^submodule 'theirs' .* C compiler\. Please specify one; install gcc; or use"
    ):
        compiled(ROTATION)


class TritonError(Exception):
    """As if of Triton's."""

    __module__ = "triton.errors"


FAILURES = {
    "Dynamo": TorchDynamoException("unsupported"),
    "Inductor": InductorError(RuntimeError("unsupported"), None),
    "Triton": TritonError("unsupported"),
    "no Triton": ModuleNotFoundError("No module named 'triton'", name="triton"),
    "gcc": CalledProcessError(1, ["gcc", "unsupported"]),
    "no gcc": RuntimeError("Failed to find C compiler"),
}


def fail(error: Exception, *tensors: Tensor) -> Tensor:
    raise error


@pytest.mark.parametrize("name", FAILURES)
def test_errors_of_compilers_are_one_line(name: str) -> None:
    part = CompiledPart("theirs", Precision.FP32, partial(fail, FAILURES[name]), (), ("answer",))
    with pytest.raises(InputError, match=r"^submodule 'theirs' cannot be compiled") as caught:
        part({})
    assert "\n" not in str(caught.value)


@torch.library.custom_op("tests::fails", mutates_args=())
def fails(x: Tensor) -> Tensor:
    """Does so when it is called, not when it is traced."""
    raise ValueError("the true reason")


@fails.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_torch_compile_hides_no_error_of_an_op(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look into how the error is reported, and fail at that."""
    compile_with = torch.compile

    def without_inductor(function: Callable[..., Any], options: object, **settings: Any) -> Any:
        return compile_with(function, backend="eager", **settings)

    monkeypatch.setattr(torch, "compile", without_inductor)
    compiled = compile_network(network(fails), Precision.FP32)
    with pytest.raises(ValueError, match=r"^the true reason$"):
        compiled(ROTATION)


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), ValueError("shape"), InputError("needs CuPy")])
def test_other_errors_stay(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), compiling("theirs"):
        fail(error)


def test_want_of_room_for_what_is_compiled() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(InputError, match=r"No space left on device; free some disk space; or"), compiling("theirs"):
        fail(InductorError(full, None))


def test_want_of_memory_in_a_compiler_is_want_of_memory() -> None:
    with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory"), compiling("theirs"):
        fail(InductorError(torch.OutOfMemoryError("CUDA out of memory"), None))
