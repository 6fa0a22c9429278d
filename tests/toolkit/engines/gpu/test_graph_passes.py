"""Each rewrite of an exported graph: where it applies, where it must not, and that results stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from custom_ops.inverse.op import inverse
from toolkit.engines.gpu.compiled.passes.absorb_projections import absorb_projections
from toolkit.engines.gpu.compiled.passes.compose_concatenated import compose_concatenated
from toolkit.engines.gpu.compiled.passes.compose_convolutions import compose_convolutions
from toolkit.engines.gpu.compiled.passes.compose_linears import compose_linears
from toolkit.engines.gpu.compiled.passes.dense_inputs import make_inputs_dense
from toolkit.engines.gpu.compiled.passes.fold_batch_norm import fold_batch_norm
from toolkit.engines.gpu.compiled.passes.fold_constants import fold_constants
from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls, shape_of
from toolkit.engines.gpu.compiled.passes.merge_linears import merge_linears
from toolkit.engines.gpu.compiled.passes.rank_topk import LONGEST, rank_topk
from toolkit.engines.gpu.compiled.passes.remove_noops import remove_noops
from toolkit.engines.gpu.compiled.passes.share_common import share_common
from toolkit.engines.gpu.compiled.passes.single_key_attention import drop_single_key_attention
from toolkit.engines.gpu.compiled.passes.split_linears import split_linears
from toolkit.engines.gpu.compiled.passes.unroll_small_products import unroll_small_products
from toolkit.nn.attention import MultiheadAttention, mask_logits, merge_heads, split_heads

pytestmark = pytest.mark.thorough

Pass = Callable[[GraphModule], int]


class Function(nn.Module):
    """A function of tensors as a module, with layers and constants of its own."""

    def __init__(self, function: Callable[..., Tensor], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


def rewrite(module: nn.Module, inputs: tuple[Tensor, ...], *passes: Pass) -> tuple[int, GraphModule]:
    """Rewrites of the last of `passes`, applied in order, and the graph; its result must stay that of `module`."""
    torch.manual_seed(0)
    module = module.double().eval()
    gm = torch.export.export(module, inputs, strict=False).module()
    assert isinstance(gm, GraphModule)
    count = 0
    for apply in passes:
        count = apply(gm)
    gm.recompile()
    torch.testing.assert_close(gm(*inputs), module(*inputs), rtol=1e-12, atol=1e-12)
    for node in gm.graph.nodes:
        if node.op == "call_function":
            assert "val" in node.meta, f"{node} lost its fake value"
    return count, gm


def x(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_constants_are_computed_once() -> None:
    module = Function(lambda m, x: x + m.table[1:].exp() * torch.arange(3), table=x(4, 3))
    count, gm = rewrite(module, (x(3, 3),), remove_noops, fold_constants)
    assert count == 1
    assert [node.target for node in calls(gm, Aten.exp.default, Aten.arange.default, Aten.mul.Tensor)] == []


def test_random_numbers_and_large_results_are_no_constants() -> None:
    noise = torch.export.export(Function(lambda m, x: x + torch.rand(3)), (x(3),)).module()
    assert fold_constants(noise) == 0
    large = Function(lambda m, x: (m.row[:, None] * m.row)[:2, :2] + x, row=torch.ones(3000, dtype=torch.float64))
    count, gm = rewrite(large, (x(2, 2),), fold_constants)
    assert count == 1  # the row alone, as a column
    assert len(calls(gm, Aten.mul.Tensor)) == 1


def batch_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.5, 1.5)
    return norm


@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_moves_into_its_convolution(bias: bool) -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=bias), batch_norm(3))
    count, gm = rewrite(module, (x(1, 2, 5, 5),), fold_batch_norm)
    assert count == 1
    assert not calls(gm, Aten.batch_norm.default)


def test_batch_norm_stays_where_its_convolution_serves_others() -> None:
    module = Function(lambda m, x: m.norm(m.conv(x)) + m.conv(x), conv=nn.Conv2d(2, 3, 1), norm=batch_norm(3))
    assert rewrite(module, (x(1, 2, 5, 5),), share_common, fold_batch_norm)[0] == 0


def test_batch_norm_stays_behind_a_convolution_whose_bias_is_computed() -> None:
    """It is no constant that could be scaled ahead."""
    module = Function(
        lambda m, x: m.norm(torch.conv2d(x, m.conv.weight, x.mean((0, 2, 3)).repeat(2)[:3])),
        conv=nn.Conv2d(2, 3, 1),
        norm=batch_norm(3),
    )
    assert rewrite(module, (x(1, 2, 5, 5),), fold_batch_norm)[0] == 0


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pointwise_convolution_moves_into_the_next(stride: int) -> None:
    """Borders included, where the first's bias meets the second's padding."""
    module = nn.Sequential(nn.Conv2d(4, 16, 1), nn.Conv2d(16, 3, 3, stride=stride, padding=1))
    count, gm = rewrite(module, (x(2, 4, 5, 6),), compose_convolutions)
    assert count == 1
    assert len(calls(gm, Aten.conv2d.default)) == 1


def test_convolutions_do_not_compose_where_that_multiplies_more_or_the_first_is_wider() -> None:
    reducing = nn.Sequential(nn.Conv2d(16, 2, 1), nn.Conv2d(2, 16, 3))
    assert rewrite(reducing, (x(1, 16, 5, 5),), compose_convolutions)[0] == 0
    wide = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 2, 3))
    assert rewrite(wide, (x(1, 2, 5, 5),), compose_convolutions)[0] == 0


def test_linears_over_the_same_tensor_merge() -> None:
    first, second, third = nn.Linear(4, 6), nn.Linear(4, 2, bias=False), nn.Linear(4, 6)
    module = Function(
        lambda m, x: m.first(x).view(3, 2, 3).sum(1) * m.second(x)[:, :1] + m.third(x + 1)[:, :3],
        first=first, second=second, third=third,
    )  # fmt: skip
    count, gm = rewrite(module, (x(3, 4),), remove_noops, merge_linears)
    assert count == 2
    assert [node.meta["val"].shape[-1] for node in calls(gm, Aten.linear.default)] == [8, 6]


def test_linears_before_a_relu_stay_apart() -> None:
    module = Function(
        lambda m, x: m.first(x).relu() + m.second(x).relu(), first=nn.Linear(4, 6), second=nn.Linear(4, 6)
    )
    assert rewrite(module, (x(3, 4),), merge_linears)[0] == 0


def test_linears_that_a_custom_op_reads_for_a_whole_batch_stay_apart() -> None:
    module = Function(
        lambda m, x: (
            inverse(m.first(x).unflatten(-1, (3, 3)).expand(2, -1, -1, -1)) + m.second(x).unflatten(-1, (3, 3))
        ),
        first=nn.Linear(4, 9),
        second=nn.Linear(4, 9),
    )
    assert rewrite(module, (x(3, 4),), merge_linears)[0] == 0


def test_linears_merge_up_to_a_width() -> None:
    module = Function(lambda m, x: m.first(x) + m.second(x), first=nn.Linear(4, 1500), second=nn.Linear(4, 1500))
    assert rewrite(module, (x(3, 4),), merge_linears)[0] == 0


def attention() -> nn.Module:
    return Function(lambda m, q, k: m.attend(q, k, k), attend=MultiheadAttention(16, 2))


def test_attention_over_one_key_is_its_value() -> None:
    _, gm = rewrite(attention(), (x(3, 16), x(1, 16)), drop_single_key_attention, fold_constants)
    assert not calls(gm, Aten.softmax.int, Aten.matmul.default)
    assert len(calls(gm, Aten.linear.default)) == 2
    assert rewrite(attention(), (x(3, 16), x(2, 16)), drop_single_key_attention)[0] == 0


def test_a_single_query_reads_a_long_memory_unprojected() -> None:
    count, gm = rewrite(attention(), (x(1, 16), x(40, 16)), fold_constants, absorb_projections)
    assert count == 1
    assert {node.meta["val"].shape[0] for node in calls(gm, Aten.linear.default)} == {1}
    for queries, keys in ((2, 40), (1, 5)):  # more work than it saves
        assert rewrite(attention(), (x(queries, 16), x(keys, 16)), fold_constants, absorb_projections)[0] == 0


def test_a_constant_query_reads_a_long_memory_unprojected() -> None:
    module = Function(lambda m, k: m.attend(m.query, k, k), attend=MultiheadAttention(16, 2), query=x(1, 16))
    assert rewrite(module, (x(40, 16),), fold_constants, absorb_projections)[0] == 1


def test_linears_in_a_row_compose() -> None:
    def through_heads(m: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = m.second(merge_heads(split_heads(m.first(x), 2)))  # type: ignore[operator]
        return out

    module = Function(through_heads, first=nn.Linear(6, 8), second=nn.Linear(8, 3, bias=False))
    count, gm = rewrite(module, (x(1, 6),), compose_linears)
    assert count == 1
    assert len(calls(gm, Aten.linear.default)) == 1


def test_linears_do_not_compose_through_a_permutation_or_into_a_larger_one() -> None:
    swapped = Function(lambda m, x: m.second(m.first(x).transpose(0, 1)), first=nn.Linear(6, 4), second=nn.Linear(4, 3))
    assert rewrite(swapped, (x(4, 6),), compose_linears)[0] == 0
    narrow = nn.Sequential(nn.Linear(64, 2), nn.Linear(2, 64))
    assert rewrite(narrow, (x(4, 64),), compose_linears)[0] == 0


def test_concatenated_linears_become_part_of_the_next() -> None:
    module = Function(
        lambda m, x, y: m.last(torch.cat([m.first(x), m.zeros, y, m.wide(y)], -1)),
        first=nn.Linear(4, 5), wide=nn.Linear(2, 90), last=nn.Linear(100, 3), zeros=torch.zeros(6, 3).double(),
    )  # fmt: skip
    count, gm = rewrite(module, (x(6, 4), x(6, 2)), compose_concatenated)
    assert count == 3  # first, zeros and wide
    assert [node.meta["val"].shape for node in calls(gm, Aten.cat.default)] == [(6, 8)]


def test_concatenated_linears_stay_where_others_read_them_or_that_multiplies_more() -> None:
    shared = Function(
        lambda m, x: m.last(torch.cat([m.first(x), x], -1)) + m.first(x), first=nn.Linear(4, 4), last=nn.Linear(8, 4)
    )
    assert rewrite(shared, (x(6, 4),), share_common, compose_concatenated)[0] == 0
    narrow = Function(
        lambda m, x: m.last(torch.cat([m.first(x), x], -1)), first=nn.Linear(40, 2), last=nn.Linear(42, 40)
    )
    assert rewrite(narrow, (x(6, 40),), compose_concatenated)[0] == 0


def test_chunks_of_a_linear_become_linears_where_they_are_read() -> None:
    module = Function(lambda m, x: m.layer(x).chunk(3, -1)[2] * 2, layer=nn.Linear(4, 9))
    count, gm = rewrite(module, (x(5, 4),), split_linears)
    assert count == 1
    assert [node.meta["val"].shape for node in calls(gm, Aten.linear.default)] == [(5, 3)]
    rows = Function(lambda m, x: m.layer(x).chunk(3, 0)[2], layer=nn.Linear(4, 9))
    assert rewrite(rows, (x(6, 4),), split_linears)[0] == 0


def test_small_products_unroll() -> None:
    layer = Function(lambda m, x: m.layer(x.permute(1, 2, 0)).relu(), layer=nn.Linear(8, 3))
    assert rewrite(layer, (x(8, 2, 5),), unroll_small_products)[0] == 1
    product = Function(lambda m, a, b: a @ b)
    assert rewrite(product, (x(7, 6, 2), x(7, 2, 2)), unroll_small_products)[0] == 1
    assert rewrite(product, (x(7, 3), x(3, 3)), unroll_small_products)[0] == 1


def test_large_products_and_attention_do_not_unroll() -> None:
    assert rewrite(Function(lambda m, x: m.layer(x), layer=nn.Linear(9, 3)), (x(2, 9),), unroll_small_products)[0] == 0
    weighted = Function(lambda m, a, b: mask_logits(a, None).softmax(-1) @ b)
    assert rewrite(weighted, (x(2, 6, 6), x(2, 6, 6)), unroll_small_products)[0] == 0


def test_equal_calls_are_made_once() -> None:
    module = Function(lambda m, x: (x + 1).exp() * (x + 1).exp() + (x + 2).exp())
    count, gm = rewrite(module, (x(3),), share_common)
    assert count == 2
    assert len(calls(gm, Aten.exp.default)) == 2


def test_random_numbers_are_not_shared() -> None:
    noise = torch.export.export(Function(lambda m, x: torch.rand_like(x) + torch.rand_like(x)), (x(3),)).module()
    assert share_common(noise) == 0


def test_noops_disappear_and_views_become_reshapes() -> None:
    def idle(_: nn.Module, x: Tensor) -> Tensor:
        y = nn.functional.dropout(x.clone().to(torch.float64).expand(3, 4), training=False)
        return y.view(2, 6) + torch.tensor([1.0])

    count, gm = rewrite(Function(idle), (x(3, 4),), remove_noops)
    assert count > 0
    assert {node.target for node in calls(gm, *(n.target for n in gm.graph.nodes if n.op == "call_function"))} == {
        Aten.reshape.default,
        Aten.add.Tensor,
    }


def test_changes_of_shape_and_dtype_stay() -> None:
    module = Function(lambda m, x: x.expand(3, 4).to(torch.float32).double())
    _, gm = rewrite(module, (x(1, 4),), remove_noops)
    assert len(calls(gm, Aten.expand.default, Aten.to.dtype)) == 3


@pytest.mark.parametrize("largest", [True, False])
def test_the_largest_or_smallest_of_a_vector_are_found_by_rank(largest: bool) -> None:
    def best(_: nn.Module, x: Tensor) -> Tensor:
        values, indices = x.topk(3, largest=largest)
        return values + indices

    count, gm = rewrite(Function(best), (x(9),), rank_topk)
    assert count == 1
    assert not calls(gm, Aten.topk.default)


def test_equal_elements_are_ranked_in_their_order() -> None:
    gm = rewrite(Function(lambda m, x: x.topk(3).indices), (x(5),), rank_topk)[1]
    assert gm(torch.tensor([1.0, 2, 1, 2, 1]).double()).tolist() == [1, 3, 0]


def test_an_element_that_is_not_a_number_leads_to_no_index_outside() -> None:
    gm = rewrite(Function(lambda m, x: x.topk(3).indices), (x(5),), rank_topk)[1]
    indices = gm(torch.tensor([float("nan"), 2, float("nan"), 1, float("nan")]).double())
    assert ((indices >= 0) & (indices < 5)).all()


def test_matrices_and_long_vectors_are_selected_from_as_before() -> None:
    module = Function(lambda m, x: x.topk(3).values)
    for shape in ((2, 9), (LONGEST + 1,)):
        assert rewrite(module, (x(*shape),), rank_topk)[0] == 0


def test_custom_ops_read_dense_inputs() -> None:
    module = Function(lambda m, x: inverse(x.transpose(-1, -2)) + inverse(x))
    count, gm = rewrite(module, (x(2, 4, 4),), make_inputs_dense)
    assert count == 1
    assert len(calls(gm, Aten.contiguous.default)) == 1


def test_an_input_that_is_one_for_all_of_a_batch_is_not_copied_for_each() -> None:
    turned = Function(lambda m, x: inverse(x.transpose(-1, -2).expand(3, 2, 4, 4)))
    count, gm = rewrite(turned, (x(2, 4, 4),), make_inputs_dense)
    assert count == 1
    (dense,) = calls(gm, Aten.contiguous.default)
    assert shape_of(dense) == (2, 4, 4)
    for repeat in (lambda m, x: inverse(x.expand(3, 1, 4, 4)), lambda m, x: inverse(x.expand(2, -1, -1))):
        assert rewrite(Function(repeat), (x(1, 4, 4),), make_inputs_dense)[0] == 0
