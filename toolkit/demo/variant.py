"""The networks that can be demonstrated."""

from enum import StrEnum


class Variant(StrEnum):
    """A network, and where its weights come from."""

    MINI = "mini"
    """A small network of the same architecture with trained weights, which lie in this package."""
    TINY = "tiny"
    """UniAD-tiny with pseudo-trained weights."""
    BASE = "base"
    """UniAD-base with pseudo-trained weights, over fewer pixels and cells, so that a usual machine takes minutes."""
