"""Why a node is not what it resembles."""

from __future__ import annotations


class Unfit(Exception):
    """A node cannot be mapped; the message says why."""
