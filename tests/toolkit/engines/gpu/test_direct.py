"""What Inductor wrote of a part is taken out of its module, kept, and executed without Inductor."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.engines.gpu.compiled import direct
from toolkit.engines.gpu.compiled.cuda_kernel import KernelForm, LaunchAttribute, LaunchConfig
from toolkit.engines.gpu.compiled.direct import SUFFIX, read_direct, write_direct
from toolkit.engines.gpu.compiled.direct_record import REASON, generated_modules, keep_direct
from toolkit.storage.remains import partial_path

X = torch.arange(6.0).reshape(2, 3)
HEAD = """
import os
import torch
from torch import device
from torch._inductor.select_algorithm import extern_kernels
from torch._inductor.hooks import run_intermediate_hooks
assert_size_stride = torch._C._dynamo.guards.assert_size_stride
empty_strided_cpu = torch._C._dynamo.guards._empty_strided_cpu
reinterpret_tensor = torch._C._dynamo.guards._reinterpret_tensor
kernel = os
"""
FUNCTION = """
SCALE = 2.0

class Runner:
    def call(self, args):
        arg0_1, = args
        args.clear()
        assert_size_stride(arg0_1, (2, 3), (3, 1))
        buf0 = empty_strided_cpu((2, 2), (2, 1), torch.float32)
        extern_kernels.mm(arg0_1, reinterpret_tensor(arg0_1, (3, 2), (1, 3), 0), out=buf0)
        return (torch.ops.aten.mul.Tensor(buf0, SCALE), arg0_1, )

runner = Runner()
call = runner.call
"""
"""As Inductor writes it."""


def module_of(source: str, folder: Path) -> ModuleType:
    module = ModuleType("generated")
    module.__file__ = str(folder / "generated.py")
    Path(module.__file__).write_text(source)
    exec(source, vars(module))
    return module


def test_a_function_is_kept_by_itself(tmp_path: Path) -> None:
    """Without what nothing of it needs."""
    wanted = (2 * X @ X.T, X)
    keep_direct(tmp_path / "0.bin", [module_of(HEAD + FUNCTION, tmp_path)], [X], wanted)
    part = read_direct(tmp_path / f"0{SUFFIX}")
    for _ in range(2):
        for found, expected in zip(part(X), wanted, strict=True):
            assert torch.equal(found, expected)
    assert not list(tmp_path.glob(".*")), "what was begun is gone"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("torch.ops.aten.mul.Tensor(", "run_intermediate_hooks(", "names run_intermediate_hooks"),
        ("torch.ops.aten.mul.Tensor(", "kernel.run(", "names os"),
        ("extern_kernels.mm", "extern_kernels.bias_addmm", "names extern_kernels.bias_addmm"),
        ("SCALE)", "torch._inductor.config.debug)", "names torch._inductor"),
        ("SCALE)", "missing)", "names missing"),
        ("buf0, SCALE", "buf0, 3", "output 0 has other values"),
        ("(2, 2), (2, 1)", "(2, 2), (1, 2)", "output 0 lies in memory in another way"),
        (", arg0_1, )", ", )", "1 outputs in place of 2"),
    ],
)
def test_what_is_unknown_is_left_to_inductor(old: str, new: str, said: str, tmp_path: Path) -> None:
    """And a file says why; it is not tried again."""
    module = module_of(HEAD + FUNCTION.replace(old, new), tmp_path)
    keep_direct(tmp_path / "0.bin", [module], [X], (2 * X @ X.T, X))
    assert (tmp_path / f"0{REASON}").read_text() == f"UnknownForm: {said}"
    keep_direct(tmp_path / "0.bin", [module_of(HEAD + FUNCTION, tmp_path)], [X], (2 * X @ X.T, X))
    assert not (tmp_path / f"0{SUFFIX}").exists()


def test_want_of_memory_is_no_reason(tmp_path: Path) -> None:
    """What a killed process left goes when there is enough."""
    wanted = (2 * X @ X.T, X)
    scarce = FUNCTION.replace("args.clear()", "raise torch.OutOfMemoryError")
    left = partial_path(tmp_path / f"0{SUFFIX}", SUFFIX)
    left = left.with_name(left.name.replace(f"-{os.getpid()}.", "-999999999."))
    left.touch()
    keep_direct(tmp_path / "0.bin", [module_of(HEAD + scarce, tmp_path)], [X], wanted)
    assert not list(tmp_path.glob("0.*"))
    keep_direct(tmp_path / "0.bin", [module_of(HEAD + FUNCTION, tmp_path)], [X], wanted)
    assert [path.name for path in tmp_path.glob("*0.*")] == [f"0{SUFFIX}"]


def test_no_folder_is_made(tmp_path: Path) -> None:
    """That of an entry is its owner's alone."""
    keep_direct(tmp_path / "entry" / "0.bin", [module_of(HEAD + FUNCTION, tmp_path)], [X], (2 * X @ X.T, X))
    assert not (tmp_path / "entry").exists()


def test_without_a_module_there_is_a_reason(tmp_path: Path) -> None:
    with generated_modules() as modules:
        pass
    keep_direct(tmp_path / "0.bin", modules, [X], (X,))
    assert "list index" in (tmp_path / f"0{REASON}").read_text()


class Recorder:
    """Stands in for a kernel: doubles its first argument, and says how it was launched."""

    launched: list[tuple[Any, ...]]

    def __init__(self, image: bytes, form: KernelForm) -> None:
        assert image == b"binary\0"
        self.form = form

    def __call__(self, *given: Any) -> None:
        *grid, stream, x, count = given
        x.mul_(2)
        Recorder.launched.append((self.form, *grid, stream, count))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A part with a kernel."""
    monkeypatch.setattr(direct, "CudaKernel", Recorder)
    Recorder.launched = []
    function = "def call(args):\n    x, = args\n    args.clear()\n    triton_0.run(x, 6, stream=7)\n    return (x,)\n"
    launcher = "def launcher(x, xnumel, stream):\n    runner(-(xnumel // -4), 1, 1, stream, x, xnumel)\n"
    write_direct(tmp_path / "part", function, {"triton_0": (launcher, FORM, b"binary\0")})
    return tmp_path / "part"


FORM = KernelForm("kernel", ("*fp32", "i32"), warps=4, shared=64, early=True, scratch=2)


def test_kernels_are_launched_as_they_were(file: Path) -> None:
    (found,) = read_direct(file)(X.clone())
    assert torch.equal(found, 2 * X)
    assert Recorder.launched == [(FORM, 2, 1, 1, 7, 6)]


@pytest.mark.parametrize("length", [0, 30, -1])
def test_a_file_that_was_cut_off_is_refused(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(Exception, match="zip"):
        read_direct(file)


def test_a_changed_byte_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"binary\0", b"binarz\0"))
    with pytest.raises(Exception, match="CRC"):
        read_direct(file)


def test_structures_are_those_of_the_driver() -> None:
    """cuda.h: a union of 64 bytes behind a number and its padding; pointers at multiples of 8."""
    assert (ctypes.sizeof(LaunchAttribute), LaunchAttribute.value.offset) == (72, 8)
    assert ctypes.sizeof(LaunchConfig) == 56
    offsets = [getattr(LaunchConfig, name).offset for name, _ in LaunchConfig._fields_]
    assert offsets == [0, 12, 24, 32, 40, 48]


def test_inputs_of_any_address_may_be_given() -> None:
    """On a CPU nothing is copied."""
    row: Tensor = torch.zeros(3, 9)[:, 6]
    assert direct._aligned(row) is row
