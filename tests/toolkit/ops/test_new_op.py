"""`new-op` writes an op that works, and the page that walks through adding one holds."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from tests.emulation.emulated_kernel import needs_compiler
from tests.emulation.gradients import emulated_gradients, exact_gradients
from toolkit.cli.main import run
from toolkit.ops.scaffold import camel_case, write_op, write_package
from toolkit.plugin.manager import PluginManager

pytestmark = pytest.mark.thorough

REPOSITORY = Path(__file__).parents[3]
PAGE = (REPOSITORY / "docs/new-op.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python|cuda) ?(\S*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
"""Language, file and text of each piece of code on the page."""

COMMANDS = {
    "uniad-toolkit": [sys.executable, "-c", "from toolkit.cli.main import main; main()"],
    "python": [sys.executable],
}


def execute(command: str, folder: Path) -> str:
    """Output of a shell command, which must succeed, with the interpreter and the toolkit under test."""
    program, *arguments = shlex.split(command)
    ended = subprocess.run(
        [*COMMANDS[program], *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def replace_test(path: Path, test: str) -> None:
    """Put a test function in the place of the one of the same name."""
    text = path.read_text(encoding="utf-8")
    name = test.partition("(")[0]
    changed, count = re.subn(rf"^{name}\(.*?(?=^(?:def|@|\Z))", f"{test}\n\n", text, flags=re.MULTILINE | re.DOTALL)
    assert count == 1, f"{name} is not in {path}"
    path.write_text(changed, encoding="utf-8")


def test_op_is_a_package_with_a_test(tmp_path: Path) -> None:
    assert run(["new-op", "soft_gate", "-o", str(tmp_path / "soft_gate")]) == 0
    assert sorted(file.name for file in (tmp_path / "soft_gate").iterdir()) == [
        "__init__.py",
        "kernel.cu",
        "op.py",
        "test_soft_gate.py",
    ]


def test_generated_op_is_named_throughout(tmp_path: Path) -> None:
    write_op("soft_gate", tmp_path)
    text = "".join(file.read_text() for file in tmp_path.iterdir())
    assert not re.search("new.?op", text, re.IGNORECASE)
    assert {"soft_gate", "SoftGate", "SOFT_GATE"} <= set(re.findall(r"\w+", text))


@pytest.mark.slow
def test_walk_through(tmp_path: Path) -> None:
    """Every piece of code on the page, in its order; the first is the op as generated, and its test."""
    for language, file, text in BLOCKS:
        if language == "bash":
            for command in text.splitlines():
                execute(command, tmp_path)
        elif "/test_" in file:
            replace_test(tmp_path / file, text)
        else:
            (tmp_path / file).write_text(text, encoding="utf-8")
    assert list((tmp_path / "kernels").glob("lane_distance-sm_120-*.cubin"))


@needs_compiler
def test_backward_of_the_page(tmp_path: Path) -> None:
    """The kernel of gradients, emulated on the CPU, and the statement of it."""
    [code] = re.findall(r"^```python lane_distance/op.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    [statement] = re.findall(r"^```py\n(BACKWARD = .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    [kernel] = re.findall(r"^```cu\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    code = re.sub("^LANE_DISTANCE = .*$", statement, code.replace("uniad::", "uniad_tests::"), flags=re.MULTILINE)
    (tmp_path / "op.py").write_text(code)
    (tmp_path / "kernel.cu").touch()
    (tmp_path / "backward.cu").write_text(kernel)
    [op] = PluginManager.load([tmp_path / "op.py"], builtin=()).custom_ops()
    assert op.example is not None
    inputs, attributes = op.signature.bind(op.example(), {})
    gradient = torch.randn(7, 9, generator=torch.Generator().manual_seed(0))
    found = emulated_gradients(op, inputs, attributes, gradient)
    for actual, expected in zip(found, exact_gradients(op, inputs, attributes, gradient), strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_package_is_installed_and_used(tmp_path: Path) -> None:
    """Its kernel comes with it, its entry point makes the op known, and its tests pass, also that of an engine."""
    assert run(["new-op", "soft_gate", "--package", "my_gates", "-o", str(tmp_path / "project")]) == 0
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", tmp_path / "site", tmp_path / "project"], check=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(REPOSITORY)])}

    def installed(*command: str) -> str:
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    assert "soft_gate: custom op SoftGate" in installed(*COMMANDS["uniad-toolkit"], "plugins")
    tested = installed(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "project"))
    assert re.search(r"\d passed", tested)
    assert "failed" not in tested
    compiled = installed(*COMMANDS["uniad-toolkit"], "kernels", "compile", "SoftGate", "--arch", "sm_86")
    assert compiled.count("sm_86") == 2


def test_files_of_a_package(tmp_path: Path) -> None:
    write_package("soft_gate", "my_gates", tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "my_gates/__init__.py",
        "my_gates/soft_gate/__init__.py",
        "my_gates/soft_gate/kernel.cu",
        "my_gates/soft_gate/op.py",
        "pyproject.toml",
        "tests/test_soft_gate.py",
    ]
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == "my-gates"
    assert project["project"]["entry-points"]["uniad_toolkit"] == {"soft_gate": "my_gates.soft_gate.op"}


@pytest.mark.parametrize(
    ("package", "message"),
    [("My-Gates", "package name 'My-Gates' is not possible"), ("json", "there is a module named json already")],
)
def test_impossible_package(package: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new-op", "soft_gate", "--package", package, "-o", str(tmp_path / "project")]) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["Gate", "soft-gate", "2d", "class", "soft__gate", "gate_", ""])
def test_impossible_name(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new-op", name, "-o", str(tmp_path / "op")]) == 2
    assert f"op name {name!r} is not possible" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_name_of_another_op(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new-op", "inverse", "-o", str(tmp_path / "op")]) == 2
    assert "there is an op named Inverse already" in capsys.readouterr().err


def test_existing_folder_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new-op", "gate", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("already exists; choose another output\n")  # the command has no --force


@pytest.mark.parametrize(("name", "expected"), [("gate", "Gate"), ("soft_gate", "SoftGate"), ("gate_2d", "Gate2d")])
def test_camel_case(name: str, expected: str) -> None:
    assert camel_case(name) == expected
