"""Is everything there that the job needs, does it work, and if not, what is to be done?"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from toolkit.cli.main import run
from toolkit.doctor import machine
from toolkit.doctor.check import Check, Status
from toolkit.doctor.deployment import ENTRIES, check_files
from toolkit.doctor.machine import check_driver, check_machine, check_memory
from toolkit.doctor.packages import (
    REQUIRED,
    Package,
    check_optional,
    check_python,
    check_required,
    check_shared_names,
)
from toolkit.doctor.self_test import check_custom_ops, check_kernels
from toolkit.errors import InputError
from toolkit.ops.spec import CustomOp
from toolkit.ops.traced_body import TracedBody
from toolkit.plugin.manager import PluginManager
from toolkit.versions import PACKAGE

SETUP = Path(__file__).parents[3] / "setup.py"
MEMORY = "MemTotal:       16777216 kB\nMemFree:          100000 kB\nMemAvailable:   {} kB\n"


@pytest.fixture(scope="module")
def ops() -> Sequence[CustomOp]:
    """The toolkit's own."""
    return PluginManager.load().custom_ops()


def statuses(checks: Sequence[Check]) -> dict[str, Status]:
    return {check.subject: check.status for check in checks}


def make_tree(root: Path) -> None:
    """All files of a deployment."""
    for entry in ENTRIES:
        path = root / entry.path.replace("*", "mine")
        names = [path / name for name in entry.contents] or [path / "frame.bin" if not path.suffix else path]
        for name in names:
            file = name if name.suffix in {".pth", ".pkl", ".txt"} else name / "0.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("something")


# Packages


def test_required_packages_are_those_of_the_setup() -> None:
    calls = [node for node in ast.walk(ast.parse(SETUP.read_text())) if isinstance(node, ast.keyword)]
    (requirements,) = (ast.literal_eval(call.value) for call in calls if call.arg == "install_requires")
    assert {re.split("[<>=]", requirement)[0] for requirement in requirements} == {p.install for p in REQUIRED}


def test_every_required_package_is_here() -> None:
    """With name and version of what was installed."""
    checks = check_python() + check_required()
    assert {check.status for check in checks} == {Status.OK}
    found = {check.subject: check.found for check in checks}
    assert found["torch"].startswith(f"torch {torch.__version__.partition('+')[0]}")
    assert re.fullmatch(r"opencv-\S+ \d+\.\S+", found["cv2"])
    assert "CPUExecutionProvider" in found["onnxruntime"]


def test_no_other_package_has_modules_of_our_names() -> None:
    assert check_shared_names() == []


def test_other_packages_with_modules_of_our_names_are_noted() -> None:
    """They would share a folder in site-packages."""
    owners = {"plugins": [PACKAGE, "pytest", PACKAGE], "toolkit": [PACKAGE], "torch": ["torch"]}
    (check,) = check_shared_names(owners)
    assert (check.subject, check.status) == ("plugins", Status.NOTE)
    assert check.found == f"a module of uniad-toolkit, and of pytest {version('pytest')}"
    assert "an environment of its own" in check.remedy


def test_missing_required_package_fails() -> None:
    (check,) = check_required([Package("module_that_is_not_there", "wheels")])
    assert check.status is Status.FAILED
    assert check.found.startswith("ModuleNotFoundError")
    assert check.remedy == "pip install --force-reinstall wheels"


@pytest.mark.parametrize("module", ["module_that_is_not_there", "module_that_is_not_there.wheels"])
def test_missing_optional_package_is_noted(module: str) -> None:
    """With its purpose and how to get it."""
    (check,) = check_optional([Package(module, "wheels", "driving")])
    assert check == Check(module, Status.NOTE, "not installed", "for driving: pip install wheels")


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("", ""),
        ("raise OSError('libwheels.so: not found')", "cannot be imported: OSError: libwheels.so: not found"),
        ("import os; os.abort()", "cannot be imported: exit status -6"),
    ],
    ids=["intact", "raises", "aborts"],
)
def test_optional_package_is_imported_elsewhere(
    source: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that one that brings its process down does no harm here."""
    (tmp_path / "broken_wheels.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (check,) = check_optional([Package("broken_wheels", "wheels", "driving")])
    assert check.status is (Status.NOTE if fault else Status.OK)
    assert fault in check.found
    assert "broken_wheels" not in sys.modules


# Machine


@pytest.mark.parametrize(
    ("available", "status", "found"),
    [(8388608, Status.OK, "8.0 of 16.0 GiB available"), (1048576, Status.NOTE, "1.0 of 16.0 GiB available")],
)
def test_memory(available: int, status: Status, found: str, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(MEMORY.format(available))
    check = check_memory(tmp_path / "meminfo")
    assert (check.status, check.found) == (status, found)


def test_unknown_memory_is_noted(tmp_path: Path) -> None:
    assert check_memory(tmp_path / "nowhere").status is Status.NOTE


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses(check_machine(tmp_path))["disk"] is Status.OK
    monkeypatch.setattr(machine, "BUNDLE_SPACE", 2**60)
    assert statuses(check_machine(tmp_path))["disk"] is Status.FAILED


@pytest.mark.parametrize(
    ("script", "status", "found"),
    [
        ("echo 'RTX 4090, 8.9, 24564 MiB, 580.65.06'", Status.OK, "RTX 4090, 8.9, 24564 MiB, 580.65.06"),
        ("exit 9", Status.NOTE, "CalledProcessError"),
        (None, Status.NOTE, "is not there"),
    ],
    ids=["a GPU", "broken", "none"],
)
def test_driver(script: str | None, status: Status, found: str, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    if script is not None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    check = check_driver(str(program))
    assert check.status is status
    assert found in check.found


# Custom ops


@pytest.mark.converts
def test_custom_ops_are_exported_and_compared(ops: Sequence[CustomOp]) -> None:
    checks = check_custom_ops(ops)
    assert statuses(checks) == {op.name: Status.OK for op in ops}


@pytest.mark.slow
def test_wrong_conversions_are_told_apart(ops: Sequence[CustomOp]) -> None:
    """One op computes something else, one has no valid body, one no example, one is fine."""
    attention, rotate, inverse, *_ = ops
    wrong = replace(rotate, body=TracedBody(lambda op, attributes, image, angle, center: image))
    invalid = replace(attention, body=lambda attributes: "nonsense")
    checks = check_custom_ops([wrong, inverse])
    assert statuses(checks) == {"Rotate": Status.FAILED, "Inverse": Status.OK}
    assert re.search(r"ONNX Runtime differs from torch by .* more than 1e-05", checks[0].found)
    checks = check_custom_ops([invalid, inverse, replace(rotate, example=None)])
    assert statuses(checks) == {
        "MultiScaleDeformableAttention": Status.FAILED,
        "Inverse": Status.OK,
        "Rotate": Status.NOTE,
    }


def test_nothing_to_test() -> None:
    assert check_custom_ops([]) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_kernels_run(ops: Sequence[CustomOp]) -> None:
    assert statuses(check_kernels(ops)) == {op.name: Status.OK for op in ops}


def test_kernel_without_a_gpu_is_noted(ops: Sequence[CustomOp], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor.to("meta"))
    assert set(statuses(check_kernels(ops)).values()) == {Status.NOTE}


# Files


def test_complete_deployment(tmp_path: Path) -> None:
    make_tree(tmp_path)
    checks = check_files(tmp_path)
    assert set(statuses(checks).values()) == {Status.OK}
    assert checks[0].found == "trained weights: mine.pth"


def test_empty_deployment(tmp_path: Path) -> None:
    """Only what a conversion needs makes it fail; for everything it says where to get it."""
    checks = check_files(tmp_path)
    assert {s for s, status in statuses(checks).items() if status is Status.FAILED} == {
        "ckpts/*.pth",
        "data/others/motion_anchor_infos_mode6.pkl",
    }
    assert all(check.found.endswith(": missing") and check.remedy.startswith("comes from ") for check in checks)


def test_incomplete_deployment(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (tmp_path / "ckpts/mine.pth").write_text("")
    (tmp_path / "data/nuscenes/maps/0.bin").unlink()
    (tmp_path / "nuscenes_np/uniad_trt_input/info.txt").unlink()
    found = {check.subject: check.found for check in check_files(tmp_path) if check.status is not Status.OK}
    assert found == {
        "ckpts/*.pth": "trained weights: mine.pth is empty",
        "data/nuscenes": "the nuScenes dataset: maps is empty",
        "nuscenes_np/uniad_trt_input": "recorded inputs of the C++ application: info.txt is missing",
    }


def test_published_weights_are_known_by_name_and_size(tmp_path: Path) -> None:
    """Whole, each with its configuration; cut off, with where to get it."""
    make_tree(tmp_path)
    sizes = {"uniad_base_e2e.pth": 527_724_200, "uniad_base_track_map.pth": 400_256_604}
    for name, size in sizes.items():
        with (tmp_path / "ckpts" / name).open("wb") as file:
            file.truncate(size)
    assert check_files(tmp_path)[0].found == (
        "trained weights: mine.pth, "
        "uniad_base_e2e.pth (UniAD-base, stage 2; convert with --config configs/uniad_base_stage2.toml), "
        "uniad_base_track_map.pth (UniAD-base, stage 1; convert with --config configs/uniad_base_stage1.toml)"
    )
    (tmp_path / "ckpts/uniad_base_e2e.pth").write_bytes(bytes(2**20))
    check = check_files(tmp_path)[0]
    assert check.status is Status.FAILED
    assert check.found == (
        "trained weights: uniad_base_e2e.pth has 1.0 MiB, and its weights alone take 503.3: "
        "download it again, from release v1.0.1 of UniAD"
    )


def test_root_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is not a folder; give the one that holds ckpts/"):
        check_files(tmp_path / "nowhere")


# The command


@pytest.mark.slow
def test_command_prints_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    printed = capsys.readouterr().out
    titles = ("packages", "optional packages", "machine", "sessions on the GPU", "custom ops, converted")
    assert all(title in printed for title in titles)
    assert "failed" not in printed


@pytest.mark.slow
def test_command_fails_when_the_main_job_cannot_be_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Here without weights and anchors; there are no ops to test, which saves time."""
    assert run(["doctor", "--root", str(tmp_path), "--disable-plugin", "custom_ops.plugin"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "error: ckpts/*.pth, data/others/motion_anchor_infos_mode6.pkl: see what is said above\n"
    assert "comes from your training" in " ".join(captured.out.split())
