"""What the exit status of a command says; 0 is done, and a signal's own is 128 and its number."""

from __future__ import annotations

CHECK_FAILED = 1
BAD_INPUT = 2
READER_LEFT = 141
"""Whoever read the output has left, as a shell reports it of a program that SIGPIPE ends."""
