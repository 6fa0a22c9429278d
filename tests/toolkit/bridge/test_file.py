"""The file stands alone, for the Python and torch of old training environments."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.bridge.assemble import ORDER, PARTS
from toolkit.cli.main import run

TORCH_1_9 = {
    "Tensor",
    "Tensor.cuda",
    "arange",
    "backends.cuda.matmul.allow_tf32",
    "backends.cudnn.allow_tf32",
    "backends.cudnn.benchmark",
    "bool",
    "cuda.get_device_name",
    "cuda.is_available",
    "distributed.get_rank",
    "distributed.get_world_size",
    "distributed.is_available",
    "distributed.is_initialized",
    "float64",
    "from_numpy",
    "is_autocast_enabled",
    "is_tensor",
    "long",
    "nn.MultiheadAttention",
    "nn.modules.dropout._DropoutNd",
    "no_grad",
    "ones",
    "uint8",
    "zeros",
}
"""What the file uses of torch; all of it is in 1.9."""


@pytest.fixture(scope="module")
def tree(bridge_file: Path) -> ast.Module:
    return ast.parse(bridge_file.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_it_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is there is your work."""
    output = tmp_path / "my_bridge.py"
    assert run(["bridge", "-o", str(output)]) == 0
    assert "from my_bridge import attach" in capsys.readouterr().out
    before = output.read_text()
    assert run(["bridge", "-o", str(output)]) == 2
    assert "already exists; choose another output" in capsys.readouterr().err
    assert output.read_text() == before


def test_its_name_can_be_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("my-bridge.py", "class.py"):
        assert run(["bridge", "-o", str(tmp_path / name)]) == 2
        assert "choose a name such as my_bridge.py" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_its_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bridge", "--help"]) == 0
    assert "training" in capsys.readouterr().out


@pytest.mark.thorough
def test_it_runs_without_the_toolkit(bridge_file: Path) -> None:
    """Isolated from the working directory and the environment."""
    done = subprocess.run(
        [sys.executable, "-I", bridge_file, "--help"],
        cwd=bridge_file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--dataset A:B" in done.stdout


def test_it_has_the_syntax_of_python_3_8(tree: ast.Module) -> None:
    """Parsing refuses younger syntax; annotations, which may hold younger types, are not evaluated."""
    assert ast.get_docstring(tree)
    first, *_ = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    assert (first.module, first.names[0].name) == ("__future__", "annotations")


def test_what_is_evaluated_holds_no_younger_types(tree: ast.Module) -> None:
    """Such as `dict[str, int]`, or types joined by |."""
    annotated = {id(node) for annotation in annotated_types(tree) for node in ast.walk(annotation)}
    evaluated = [node for node in ast.walk(tree) if id(node) not in annotated]
    subscripted = [ast.unparse(node.value) for node in evaluated if isinstance(node, ast.Subscript)]
    assert not {"dict", "list", "set", "tuple", "type", "Callable", "Iterator", "Sequence"} & set(subscripted)
    assert not [
        ast.unparse(node) for node in evaluated if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
    ]


def test_it_imports_numpy_and_torch_beside_the_standard_library(tree: ast.Module) -> None:
    names = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    names |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names - sys.stdlib_module_names == {"numpy", "torch"}


def test_it_uses_nothing_younger_than_torch_1_9(tree: ast.Module) -> None:
    assert {name.removeprefix("torch.") for name in dotted_names(tree) if name.startswith("torch.")} <= TORCH_1_9


def test_every_part_is_in_it_and_no_name_twice(tree: ast.Module) -> None:
    assert {path.stem for path in PARTS.glob("*.py")} == {*ORDER, "__init__"}
    names = Counter(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    assert set(names.values()) == {1}


def dotted_names(tree: ast.Module) -> Iterator[str]:
    """The longest chains of attributes that begin with a name."""
    within = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in within:
            parts, inner = [], node
            while isinstance(inner, ast.Attribute):
                parts.append(inner.attr)
                inner = inner.value  # type: ignore[assignment]
            if isinstance(inner, ast.Name):
                yield ".".join([inner.id, *reversed(parts)])


def annotated_types(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield node.returns
