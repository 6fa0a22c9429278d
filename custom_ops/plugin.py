"""The toolkit's own custom ops, contributed through the hook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from toolkit.ops.spec import CustomOp


@hookimpl
def uniad_custom_ops() -> Sequence[CustomOp]:
    """Deformable attention of two forms, BEV rotation, matrix inverse and deformable convolution."""
    from custom_ops.inverse.op import INVERSE
    from custom_ops.modulated_deformable_convolution.op import MODULATED_DEFORMABLE_CONVOLUTION
    from custom_ops.multi_scale_deformable_attention.op import MULTI_SCALE_DEFORMABLE_ATTENTION
    from custom_ops.multi_scale_deformable_attention.uneven import UNEVEN_DEFORMABLE_ATTENTION
    from custom_ops.rotate.op import ROTATE

    return (
        MULTI_SCALE_DEFORMABLE_ATTENTION,
        ROTATE,
        INVERSE,
        MODULATED_DEFORMABLE_CONVOLUTION,
        UNEVEN_DEFORMABLE_ATTENTION,
    )
