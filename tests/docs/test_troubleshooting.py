"""The messages that the troubleshooting page explains are messages of the toolkit."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/troubleshooting.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`.*?) \|", PAGE.partition("## Error messages")[2], re.MULTILINE)
MESSAGES = [message for row in ROWS for message in re.findall("`(.*?)`", row)]
TEXTS = {
    node.value
    for folder in ("toolkit", "plugins", "custom_ops")
    for path in (REPOSITORY / folder).rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}


@pytest.mark.parametrize("message", MESSAGES)
def test_message_exists(message: str) -> None:
    """Its parts, between what is shown as …, are in the source."""
    for part in filter(None, (part.strip(" ;:,") for part in message.split("…"))):
        assert any(part in text for text in TEXTS), part


@pytest.mark.parametrize("link", re.findall(r"\]\((\S+?)(?:#\S*)?\)", PAGE.replace("(#", "(troubleshooting.md#")))
def test_linked_page_exists(link: str) -> None:
    assert (REPOSITORY / "docs" / link).is_file()
