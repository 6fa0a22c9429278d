"""One file of the parts: their imports once, then what they define, each after what it builds on."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PARTS = Path(__file__).with_name("parts")
ORDER = ("environment", "arrays", "wraps", "origin", "recorder", "clip", "losses", "tree", "frames", "drive", "command")
INSTALLED = ("numpy", "torch")
"""What the file needs beside the standard library."""


def assemble() -> str:
    """The source of the file; the description of the package of parts stands at its top."""
    head = (PARTS / "__init__.py").read_text(encoding="utf-8")
    plain: set[str] = set()
    chosen: defaultdict[str, set[str]] = defaultdict(set)
    bodies = []
    for name in ORDER:
        source = (PARTS / f"{name}.py").read_text(encoding="utf-8")
        imports = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in imports:
            if isinstance(node, ast.Import):
                plain.add(ast.unparse(node))
            elif node.module and not node.module.startswith(__package__):
                chosen[node.module] |= {alias.name for alias in node.names}
        last = imports[-1].end_lineno
        bodies.append("\n".join(source.splitlines()[last:]).strip())
    future = f"from __future__ import {', '.join(chosen.pop('__future__'))}"
    installed = {line for line in plain if line.split()[1] in INSTALLED}
    standard = [
        *sorted(plain - installed),
        *(f"from {m} import {', '.join(sorted(chosen[m]))}" for m in sorted(chosen)),
    ]
    blocks = ["#!/usr/bin/env python3\n" + head.strip(), future, "\n".join(standard), "\n".join(sorted(installed))]
    return "\n\n".join(blocks) + "\n\n" + "\n\n\n".join(bodies) + "\n"
