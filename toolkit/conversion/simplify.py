"""Simplification of a freshly exported graph by rewrites that are exact.

The exporter's default optimization also drops additions of constants up to 1e-8 and factors within 1e-5 of one, taking
them for neutral elements. Epsilons that guard a division are such constants, so the rules are chosen one by one here.
"""

from __future__ import annotations

import onnx_ir
from onnx_ir.passes import Sequential
from onnx_ir.passes import common as passes
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules

FOLD_LIMIT = 1 << 24
"""Elements up to which constants are folded: above any weight, so that slices of packed projections fold."""

ROUNDS = 2

EXACT_RULES = (
    rules.cast_cast_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.no_op_transpose_rule,
    rules.reshape_reshape_rule,
    rules.squeeze_reshape_1d_rule,
    rules.transpose_transpose_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.flatten_to_reshape_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.materialize_reshape_shape_rule,
    rules.one_reshape_matmul_reshape_rule,
    rules.two_reshapes_matmul_reshape_rule,
    rules.successive_relu_rule,
    rules.successive_clip_rule,
    rules.successive_clip_relu_rule,
    rules.successive_relu_clip_rule,
    rules.fuse_batchnorm_into_conv_rule,
    rules.fuse_pad_into_conv_rule,
    rules.remove_optional_bias_from_conv_rule,
    rules.remove_optional_bias_from_gemm_rule,
)

CLEAN_UP = Sequential(
    passes.RemoveUnusedNodesPass(),
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    passes.DeduplicateInitializersPass(),
    passes.CommonSubexpressionEliminationPass(),
    passes.OutputFixPass(),
    passes.NameFixPass(),
)


def simplify(model: onnx_ir.Model) -> onnx_ir.Model:
    """Fold constants, apply the exact rules, remove what is unused or double."""
    passes.InlinePass()(model)
    for _ in range(ROUNDS):
        optimizer.fold_constants(model, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT)
        model = rewriter.rewrite(model, pattern_rewrite_rules=EXACT_RULES)
    return CLEAN_UP(model).model
