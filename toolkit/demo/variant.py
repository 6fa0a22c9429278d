"""The networks that can be demonstrated."""

from enum import StrEnum


class Variant(StrEnum):
    """A published network."""

    TINY = "tiny"
    """UniAD-tiny."""
    BASE = "base"
    """UniAD-base over fewer pixels and cells, so that a machine of usual size takes minutes."""
