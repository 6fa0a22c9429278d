"""The rewritten graph of every submodule computes what the submodule computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from tests.toolkit.small_network import SMALL, small_network
from toolkit.engines.gpu.compiled.pipeline import REWRITES, optimize
from toolkit.precision import Precision
from toolkit.specs import TensorSpec

pytestmark = pytest.mark.slow

EXPECTED = {
    "image_encoder": {"fold_batch_norm"},
    "bev_encoder": {"merge_linears"},
    "tracking": {"fold_constants", "merge_linears", "unroll_small_products"},
    "map_segmentation": {"split_linears", "compose_linears", "absorb_projections", "unroll_small_products"},
    "motion": {"merge_linears", "compose_concatenated", "unroll_small_products"},
    "occupancy": {"fold_batch_norm", "merge_linears"},
    "planning": {"drop_single_key_attention", "compose_convolutions", "absorb_projections"},
}
"""Rewrites that must find something in each submodule."""
KERNELS = {
    "image_encoder": {"use_convolution"},
    "bev_encoder": {"use_linear"},
    "tracking": {"use_attention", "use_linear"},
    "map_segmentation": {"use_attention", "use_linear"},
    "motion": {"use_attention", "use_linear"},
    "occupancy": {"use_attention", "use_linear", "use_convolution"},
    "planning": {"use_linear", "use_convolution"},
}
"""And kernels, in FP32."""


def random_input(spec: TensorSpec, dtype: torch.dtype) -> Tensor:
    zeros = torch.from_numpy(spec.zeros(SMALL.dimensions()))
    return torch.randn(zeros.shape, dtype=torch.float64).to(dtype) if zeros.is_floating_point() else zeros


def rewritten(gm: GraphModule, dtype: torch.dtype) -> set[str]:
    """The passes that found something: all of them in FP32; the kernels take no FP64."""
    if dtype == torch.float64:
        found = {rewrite.__name__ for rewrite in REWRITES if rewrite(gm)}
        gm.recompile()
        return found
    return {name for name, count in optimize(gm, Precision.FP32).items() if count}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-10)])
def test_every_submodule_keeps_its_outputs(dtype: torch.dtype, tolerance: float) -> None:
    """To rounding: products are regrouped. FP64 shows that nothing but rounding differs."""
    network = small_network().to(dtype)
    torch.manual_seed(1)
    tensors = {spec.name: random_input(spec, dtype) for spec in network.graph.inputs}
    tensors["use_previous"].fill_(1)
    for submodule in network.graph.submodules:
        inputs = tuple(tensors[name] for name in submodule.reads)
        gm = torch.export.export(network.parts[submodule.name], inputs, strict=False).module()
        assert isinstance(gm, GraphModule)
        wanted_passes = EXPECTED[submodule.name] | (KERNELS[submodule.name] if dtype == torch.float32 else set())
        assert wanted_passes <= rewritten(gm, dtype), submodule.name
        expected = network.run_submodule(submodule, tensors)
        outputs = gm(*inputs)
        actual = (outputs,) if isinstance(outputs, Tensor) else outputs
        for (name, wanted), given in zip(expected.items(), actual, strict=True):
            scale = max(1.0, wanted.abs().max().item()) if wanted.is_floating_point() else 1.0
            torch.testing.assert_close(given, wanted, rtol=0, atol=tolerance * scale, msg=f"{submodule.name} {name}")
        tensors |= expected
