"""Why something is not what it resembles."""

from __future__ import annotations


class Unfit(Exception):
    """What is looked at does not fit the pattern; the message says why."""
