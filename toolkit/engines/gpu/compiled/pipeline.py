"""The passes in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch.fx import GraphModule

from toolkit.engines.gpu.compiled.passes.absorb_projections import absorb_projections
from toolkit.engines.gpu.compiled.passes.compose_concatenated import compose_concatenated
from toolkit.engines.gpu.compiled.passes.compose_convolutions import compose_convolutions
from toolkit.engines.gpu.compiled.passes.compose_linears import compose_linears
from toolkit.engines.gpu.compiled.passes.dense_inputs import make_inputs_dense
from toolkit.engines.gpu.compiled.passes.fold_batch_norm import fold_batch_norm
from toolkit.engines.gpu.compiled.passes.fold_constants import fold_constants
from toolkit.engines.gpu.compiled.passes.merge_linears import merge_linears
from toolkit.engines.gpu.compiled.passes.rank_topk import rank_topk
from toolkit.engines.gpu.compiled.passes.remove_noops import remove_noops
from toolkit.engines.gpu.compiled.passes.share_common import share_common
from toolkit.engines.gpu.compiled.passes.single_key_attention import drop_single_key_attention
from toolkit.engines.gpu.compiled.passes.split_linears import split_linears
from toolkit.engines.gpu.compiled.passes.store_samples import store_samples
from toolkit.engines.gpu.compiled.passes.unroll_small_products import unroll_small_products
from toolkit.engines.gpu.compiled.passes.use_attention import use_attention
from toolkit.engines.gpu.compiled.passes.use_convolution import use_convolution
from toolkit.engines.gpu.compiled.passes.use_linear import use_linear
from toolkit.engines.gpu.compiled.passes.use_matmul import use_matmul
from toolkit.precision import Precision

REWRITES = (
    remove_noops,
    drop_single_key_attention,
    fold_constants,
    share_common,
    fold_batch_norm,
    compose_convolutions,
    absorb_projections,
    split_linears,
    compose_concatenated,
    compose_linears,
    merge_linears,
    unroll_small_products,
    rank_topk,
    fold_constants,
    share_common,
    make_inputs_dense,
)
"""The same mathematics in fewer and larger steps."""

KERNELS = (use_attention, use_matmul, use_linear, use_convolution, store_samples)
"""The operators of `toolkit.engines.gpu.compiled.operators` in place of PyTorch's."""


def optimize(gm: GraphModule, precision: Precision, own: Sequence[Callable[[GraphModule], int]] = ()) -> dict[str, int]:
    """Rewrite an exported inference graph in place, its results kept but for the precision of its products.

    `own` are passes of the graph's submodule, which come first. Returns the rewrites of each pass by name.
    """
    counts: dict[str, int] = {}
    for rewrite in (*own, *REWRITES):
        counts[rewrite.__name__] = counts.get(rewrite.__name__, 0) + rewrite(gm)
    counts |= {use.__name__: use(gm, precision) for use in KERNELS}
    gm.recompile()
    return counts
