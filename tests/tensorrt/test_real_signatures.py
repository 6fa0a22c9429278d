"""What the toolkit and the doubles of its tests take for TensorRT's interfaces is what the real bindings have."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.tensorrt import engine_double as double
from toolkit.engines.tensorrt.messages import ErrorList, MessageLog
from toolkit.engines.tensorrt.progress import BuildMonitor
from toolkit.engines.tensorrt.rtx import BINDINGS, LIBRARIES

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in (BINDINGS, LIBRARIES)),
    reason="TensorRT for RTX is not installed; install it with: pip install 'uniad-toolkit[tensorrt-rtx]'",
)

IMPLEMENTED = {"ILogger": MessageLog, "IErrorRecorder": ErrorList, "IProgressMonitor": BuildMonitor}
"""Interfaces that TensorRT calls, and what implements them: only the interface's own methods are compared."""
DOUBLED = {"Runtime": double.Runtime, "ICudaEngine": double.Engine, "IExecutionContext": double.Context}
"""Classes of TensorRT, and their doubles: every public method of the double must be there."""

SHOW = """
import json
from toolkit.engines.tensorrt.rtx import load_tensorrt_rtx
trt = load_tensorrt_rtx()
names = NAMES
print(json.dumps({
    name: {m: (getattr(member, "__doc__", None) or "") for m, member in vars(getattr(trt, name)).items()}
    for name in names
}))
"""


@pytest.fixture(scope="module")
def real() -> dict[str, dict[str, str]]:
    """The description of every member of the real classes."""
    script = SHOW.replace("NAMES", repr([*IMPLEMENTED, *DOUBLED]))
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    members: dict[str, dict[str, str]] = json.loads(shown.stdout)
    return members


def signatures(description: str, method: str) -> list[list[str]]:
    """Names of the parameters of each overload that a description states, without `self`."""
    stated = re.findall(rf"\b{method}\((self: .*?)\) ->", description)
    return [re.findall(r"(\w+): ", parameters)[1:] for parameters in stated]


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)[1:]


def public_methods(behaviour: type) -> list[str]:
    return [name for name, member in vars(behaviour).items() if inspect.isfunction(member) and not name.startswith("_")]


@pytest.mark.parametrize("interface", IMPLEMENTED)
def test_interfaces_are_implemented(interface: str, real: dict[str, dict[str, str]]) -> None:
    """Every method that TensorRT may call is there and takes what it gives."""
    behaviour = IMPLEMENTED[interface]
    described = {name: signatures(text, name) for name, text in real[interface].items() if not name.startswith("_")}
    called = {name: overloads for name, overloads in described.items() if overloads}
    assert called
    for name, overloads in called.items():
        assert [len(parameters(getattr(behaviour, name)))] == [len(overload) for overload in overloads], name


@pytest.mark.parametrize("interface", DOUBLED)
def test_doubles_are_like_the_real_classes(interface: str, real: dict[str, dict[str, str]]) -> None:
    """Same methods, same parameters; what may be left out of a call is left out by the session."""
    for name in public_methods(DOUBLED[interface]):
        stated = signatures(real[interface][name], name)
        given = parameters(getattr(DOUBLED[interface], name))
        assert any(given == overload[: len(given)] for overload in stated), (name, stated)
    if interface != "ICudaEngine":
        assert "error_recorder" in real[interface]
