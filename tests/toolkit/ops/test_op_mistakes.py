"""The mistakes that authors of ops make, each found without a GPU and named where it is to be mended."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sample_ops import pillar_scatter_max
from toolkit.cli.main import run
from toolkit.doctor.check import Check, Status
from toolkit.doctor.self_test import check_custom_ops
from toolkit.plugin.manager import PluginManager

pytestmark = pytest.mark.thorough

SOURCE = Path(pillar_scatter_max.__file__)
OP, KERNEL = SOURCE.read_text(encoding="utf-8"), SOURCE.with_suffix(".cu").read_text(encoding="utf-8")
NUMBERS = itertools.count()

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("cuda.bindings") is None, reason="needs pip install 'uniad-toolkit[cuda]'"
)

Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """A plugin file with the op, in which one text is replaced by another; so in its kernel. Each registers anew."""

    def write(*change: str, kernel: tuple[str, str] | None = None) -> Path:
        op, code = OP, KERNEL
        if change:
            assert change[0] in op
            op = op.replace(change[0], change[1])
        if kernel is not None:
            assert kernel[0] in code
            code = code.replace(*kernel)
        op = op.replace("uniad_tests::pillar_scatter_max", f"uniad_tests::pillar_scatter_max_{next(NUMBERS)}")
        (tmp_path / "pillar_scatter_max.cu").write_text(code, encoding="utf-8")
        path = tmp_path / "pillar_scatter_max.py"
        path.write_text(op, encoding="utf-8")
        return path

    return write


def checked(path: Path) -> Check:
    """What the self-test finds of the only op of a plugin file."""
    [check] = check_custom_ops(PluginManager.load([path], builtin=()).custom_ops())
    return check


def test_the_op_itself_is_fine(written: Written) -> None:
    check = checked(written())
    assert check.status is Status.OK, check.found


MISTAKES = {
    "height and width exchanged": (
        ('"height"], attributes["width"]\n\n\n@pillar', '"width"], attributes["height"]\n\n\n@pillar'),
        "output_shape",
        "it gives (3, 7, 5), torch (3, 5, 7)",
    ),
    "a shape of another rank": (
        ('attributes["height"], attributes["width"]\n\n\n@', 'attributes["height"] * attributes["width"]\n\n\n@'),
        "output_shape",
        "it gives (3, 35), torch (3, 5, 7)",
    ),
    "no fake": (("@pillar_scatter_max.register_fake\ndef _(", "def unused("), "register_fake", "no fake impl"),
    "a fake of another shape": (
        ("new_empty(features.shape[1], height, width)", "new_empty(features.shape[1], width, height)"),
        "register_fake",
        "it gives 'output' as float32[3, 7, 5], torch as float32[3, 5, 7]",
    ),
    "a body with other values": (("GreaterOrEqual (row, zero)", "Greater (row, zero)"), "body", "ONNX Runtime differs"),
    "a body that does not parse": (("floored = Floor (cells)", "floored = Floor cells"), "body", "Floor cells"),
    "an operator that does not exist": (("Floor (cells)", "Flour (cells)"), "body", "Flour"),
    "an attribute that does not exist": (
        ("PillarScatterMax <height, width>", "PillarScatterMax <rows, width>"),
        "body",
        "it reads an attribute 'rows'; the op has height, width",
    ),
    "a value that does not exist": (("Mul (row, columns)", "Mul (row, lines)"), "body", "lines"),
    "a body of another shape": (
        ("(channels, heights, widths)", "(channels, widths, heights)"),
        "body",
        "ONNX Runtime gives shape (3, 7, 5), torch (3, 5, 7)",
    ),
    "integers where the op takes floats": (
        (
            "cells = torch.rand(40, 2, generator=random) * torch.tensor([8.0, 6.0]) - 1",
            "cells = torch.randint(-1, 7, (40, 2), generator=random)",
        ),
        "example",
        "it gives 'cells' as int64, which the op takes as float32; give that, or state the type: "
        "CustomOp(…, types={'cells': 'int64'})",
    ),
    "an output that is not contiguous": (
        ("height, width).contiguous()", "height, width).transpose(1, 2).contiguous().transpose(1, 2)"),
        "pillar_scatter_max",
        "it gives 'output' with strides (35, 1, 5); end with .contiguous()",
    ),
    "an example that fails": (("40, 3, generator=random", "40, three"), "example", "NameError: name 'three'"),
    "a plan that fails": (
        ('height, width = attributes["height"]', 'height, width = attributes["rows"]'),
        "Kernel.plan",
        "'rows'",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("change", "part", "found"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_in_the_op(change: tuple[str, str], part: str, found: str, written: Written) -> None:
    """The remedy names the part and the file."""
    path = written(*change)
    check = checked(path)
    assert check.status is Status.FAILED
    assert check.found.startswith(f"{part}: ")
    assert found in check.found
    assert check.remedy == f"mend {part} in {path}"


KERNEL_MISTAKES = {
    "a missing semicolon": (("float best = 0.f;", "float best = 0.f"), "expected a"),
    "another name": (
        ("void pillar_scatter_max", "void pillar_scatter"),
        "has no entry point 'pillar_scatter_max'; it has pillar_scatter",
    ),
    'no extern "C"': (('extern "C" ', ""), "'pillar_scatter_max' has another name in C++; declare it extern \"C\""),
    "a macro that the plan does not give": (("HEIGHT * WIDTH) return", "ROWS * WIDTH) return"), '"ROWS" is undefined'),
    "a parameter too few": (
        ("int pillars, int channels", "int pillars"),
        "takes 4 parameters, but its launch gives 5: inputs 2, integers of the plan 2, outputs 1",
    ),
    "integers of 64 bits": (
        ("int pillars, int channels", "long long pillars, int channels"),
        "parameter 3 of 'pillar_scatter_max' is a pointer, but its launch gives an int",
    ),
}


@needs_compiler
@pytest.mark.parametrize(("change", "found"), KERNEL_MISTAKES.values(), ids=KERNEL_MISTAKES)
def test_mistake_in_the_kernel(change: tuple[str, str], found: str, written: Written) -> None:
    """The kernel is compiled and its entry point read, but not launched."""
    further = {"int pillars, int channels": ("pillar * channels", "pillar * 3")}.get(change[0])
    path = written(kernel=change)
    if further is not None:
        source = path.with_suffix(".cu")
        source.write_text(source.read_text().replace(*further))
    check = checked(path)
    assert check.status is Status.FAILED
    assert check.found.startswith("pillar_scatter_max.cu: ")
    assert found in check.found
    assert check.remedy == f"mend {path.with_suffix('.cu')}, or plan in {path}"


@needs_compiler
def test_integers_that_the_plan_leaves_out(written: Written) -> None:
    check = checked(written("(pillars, channels), (ceil_div", "(pillars,), (ceil_div"))
    assert "takes 5 parameters, but its launch gives 4: inputs 2, integers of the plan 1" in check.found


def test_plan_that_needs_a_fixed_size(written: Written) -> None:
    """It is right where sizes are fixed, and says so."""
    check = checked(written("THREADS), channels, 1)", "THREADS), channels % 4096, 1)"))
    assert check.status is Status.OK
    assert "embedded in an engine, its plan needs fixed sizes: features[1]" in check.found


FAULTY_FILES = {
    "a hook that does not exist": (("def uniad_custom_ops", "def uniad_custom_op"), "unknown hook 'uniad_custom_op'"),
    "an op of the toolkit's name": (
        ('CustomOp("PillarScatterMax"', 'CustomOp("Rotate"'),
        "both offer a custom op named 'Rotate'; rename one",
    ),
    "more outputs than named": (
        ('width: int) -> Tensor:\n    "', 'width: int) -> tuple[Tensor, Tensor]:\n    "'),
        "op 'PillarScatterMax' returns 2 tensors, but its outputs are output; name each: CustomOp(…, outputs=(…))",
    ),
    "a kernel that does not exist": (
        ('with_name("pillar_scatter_max.cu")', 'with_name("pillars.cu")'),
        "pillars.cu does not exist; put the file there",
    ),
}


@pytest.mark.parametrize(("change", "message"), FAULTY_FILES.values(), ids=FAULTY_FILES)
def test_file_that_cannot_be_loaded(
    change: tuple[str, str], message: str, written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, before anything is tried."""
    assert run(["plugins", "--plugin", str(written(*change))]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_argument_that_is_not_used_but_has_a_default(written: Written) -> None:
    """A bool becomes an attribute."""
    check = checked(written('width: int) -> Tensor:\n    "', 'width: int, keep: bool = False) -> Tensor:\n    "'))
    assert check.status is Status.OK, check.found


FORGOTTEN = {
    "no hook": (OP[OP.index("@hookimpl") :], "", "contributes nothing: it has no function that is a hook"),
    "not marked": ("@hookimpl\n", "", "uniad_custom_ops is not marked with @hookimpl and is not used; mark it"),
}


@pytest.mark.parametrize(("old", "new", "message"), FORGOTTEN.values(), ids=FORGOTTEN)
def test_forgotten_hook_is_a_warning(
    old: str, new: str, message: str, written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plugins", "--plugin", str(written(old, new))]) == 0
    assert message in capsys.readouterr().err


def test_example_is_called_once(written: Written) -> None:
    """Random numbers need no seed."""
    path = written("torch.Generator().manual_seed(0)", "None")
    assert checked(path).status is Status.OK
