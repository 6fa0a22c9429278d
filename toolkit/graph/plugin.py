"""The toolkit's own graph passes, in the order in which they run by default."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.graph.graph_pass import GraphPass
from toolkit.hookspecs import hookimpl


@hookimpl
def uniad_graph_passes() -> Sequence[GraphPass]:
    """Cleaning first, so that patterns show; then what replaces them; then what that leaves double."""
    from toolkit.graph.cleanup.casts import REMOVE_DUPLICATE_CASTS
    from toolkit.graph.cleanup.common_subexpressions import MERGE_COMMON_SUBEXPRESSIONS
    from toolkit.graph.cleanup.constants import FOLD_CONSTANTS
    from toolkit.graph.cleanup.dead_nodes import REMOVE_DEAD_NODES
    from toolkit.graph.cleanup.duplicate_initializers import MERGE_DUPLICATE_INITIALIZERS
    from toolkit.graph.cleanup.identities import REMOVE_IDENTITIES
    from toolkit.graph.deformable_attention.fuse import FUSE_DEFORMABLE_ATTENTION
    from toolkit.graph.padded_rows.mask_instead_of_padding import MASK_INSTEAD_OF_PADDING
    from toolkit.graph.replacements.masks import MASK_INSTEAD_OF_POSITIONS
    from toolkit.graph.replacements.operators import REPLACE_MISSING_OPERATORS
    from toolkit.graph.vendor.recognition import RECOGNISE_VENDOR_NODES
    from toolkit.graph.vendor.spelling import TO_VENDOR_SPELLINGS

    return (
        REMOVE_DEAD_NODES,
        FOLD_CONSTANTS,
        REMOVE_IDENTITIES,
        REMOVE_DUPLICATE_CASTS,
        RECOGNISE_VENDOR_NODES,
        MASK_INSTEAD_OF_PADDING,
        FUSE_DEFORMABLE_ATTENTION,
        MASK_INSTEAD_OF_POSITIONS,
        REPLACE_MISSING_OPERATORS,
        MERGE_DUPLICATE_INITIALIZERS,
        MERGE_COMMON_SUBEXPRESSIONS,
        TO_VENDOR_SPELLINGS,
    )
