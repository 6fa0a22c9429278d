"""What a check of the installation finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """Whether the main job, from a checkpoint to results on the CPU, can be done."""

    OK = "ok"
    NOTE = "note"
    """Something optional is missing."""
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, what was found and, unless that is fine, what to do."""

    subject: str
    status: Status
    found: str
    remedy: str = ""
