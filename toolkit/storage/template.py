"""Files made of templates that work by themselves: some of their words are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_filled(template: Path, path: Path, words: Mapping[str, str]) -> None:
    """Write a file with the text of a template, words of it replaced by others in the order in which they are given."""
    text = template.read_text(encoding="utf-8")
    for old, new in words.items():
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
