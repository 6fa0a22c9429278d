"""How a build is stated: on the command line, to the process that builds, and to NVIDIA's own tool."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.request import BuildRequest
from toolkit.engines.tensorrt.settings import (
    BuildSettings,
    CustomOps,
    ShapeRange,
    equivalent_command,
    parse_capabilities,
    parse_profiles,
)
from toolkit.errors import InputError
from toolkit.precision import Precision

EVERYTHING = BuildSettings(
    Target.TENSORRT_RTX,
    Precision.FP16,
    keep_fp32=("planning", "*/Softmax_*"),
    custom_ops=CustomOps.FUNCTION,
    capabilities=("8.6", "12.0"),
    profiles={"x": ShapeRange((1, 3), (4, 3), (8, 3)), "y": ShapeRange((1,), (2,), (3,))},
    workspace=512,
    optimization_level=2,
    tf32=True,
)
LITTLE = BuildSettings(Target.TENSORRT, timing_cache=Path("timings"))


def test_capabilities() -> None:
    assert parse_capabilities("8.6, 12.0", Target.TENSORRT_RTX) == ("8.6", "12.0")
    assert parse_capabilities(None, Target.TENSORRT_RTX) == ("8.6", "8.9", "12.0")
    assert parse_capabilities(None, Target.TENSORRT) == ()


@pytest.mark.parametrize("text", ["86", "8.6,", "sm_86", ""])
def test_capability_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match=r"--compute-capability '.*' is none; give them like 8\.6,8\.9,12\.0"):
        parse_capabilities(text, Target.TENSORRT_RTX)


def test_capability_named_twice() -> None:
    with pytest.raises(InputError, match="names one twice"):
        parse_capabilities("8.6,8.6", Target.TENSORRT_RTX)


def test_profile() -> None:
    """A name may hold colons of its own, as names of some exporters do."""
    profiles = parse_profiles(["x:1x3:4x3:8x3", "in:0:1:2:3"])
    assert profiles == {"x": EVERYTHING.profiles["x"], "in:0": ShapeRange((1,), (2,), (3,))}


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        (["x"], "is not NAME:MIN:OPT:MAX"),
        (["x:1:2"], "is not NAME:MIN:OPT:MAX"),
        (["x:1:n:3"], "is not NAME:MIN:OPT:MAX"),
        (["x:1x2:1:1"], "shapes of different ranks"),
        (["x:2:1:3"], "must not decrease from MIN over OPT to MAX"),
        (["x:1:2:3", "x:1:2:3"], "names input 'x' twice"),
    ],
)
def test_profile_that_is_none(texts: list[str], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        parse_profiles(texts)


def test_target_that_builds_for_the_gpu_at_hand() -> None:
    with pytest.raises(InputError, match=r"TensorRT builds for the GPU at hand alone; .* --target tensorrt-rtx"):
        BuildSettings(Target.TENSORRT, capabilities=("8.6",))


def test_target_without_embedded_kernels() -> None:
    with pytest.raises(InputError, match=r"TensorRT for RTX takes no embedded kernels; .* plugin or function"):
        BuildSettings(Target.TENSORRT_RTX, custom_ops=CustomOps.EMBEDDED)


def test_target_that_times_nothing() -> None:
    with pytest.raises(InputError, match="TensorRT for RTX times nothing while it builds; leave --timing-cache out"):
        BuildSettings(Target.TENSORRT_RTX, timing_cache=Path("timings"))


def test_patterns_without_effect() -> None:
    with pytest.raises(InputError, match="--keep-fp32 is of no use with --precision fp32"):
        BuildSettings(Target.TENSORRT_RTX, keep_fp32=("planning",))


def test_tf32_is_a_choice_of_its_own() -> None:
    with pytest.raises(InputError, match="--precision tf32 is of no use in a build; give --tf32"):
        BuildSettings(Target.TENSORRT_RTX, Precision.TF32)


def test_names_tell_engines_apart() -> None:
    assert EVERYTHING.name == "tensorrt-rtx-fp16-function"
    assert BuildSettings(Target.TENSORRT).name == "tensorrt-fp32"


@pytest.mark.parametrize("settings", [EVERYTHING, LITTLE], ids=["everything", "little"])
def test_request_goes_through_json(settings: BuildSettings) -> None:
    request = BuildRequest(Path("m.onnx"), Path("m.engine"), settings, (Path("my.py"),), ("plugins.planning.plugin",))
    assert BuildRequest.from_json(request.to_json()) == request


def test_equivalent_command() -> None:
    assert equivalent_command(EVERYTHING, Path("a b.onnx"), Path("m.engine")) == (
        "tensorrt_rtx '--onnx=a b.onnx' --saveEngine=m.engine --skipInference --computeCapabilities=86,120 "
        "--memPoolSize=workspace:512M --builderOptimizationLevel=2 "
        "--minShapes=x:1x3,y:1 --optShapes=x:4x3,y:2 --maxShapes=x:8x3,y:3"
    )
    assert equivalent_command(LITTLE, Path("m.onnx"), Path("m.engine")) == (
        "trtexec --onnx=m.onnx --saveEngine=m.engine --skipInference --stronglyTyped --noTF32 --timingCacheFile=timings"
    )
