"""The reference deployment's interface around a network: what goes in and out, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto

from tests.graph.rewriting import rewritten, text_model
from toolkit.bundle import Bundle
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.errors import InputError
from toolkit.graph.model_file import read_model
from toolkit.graph.pipeline import rewrite
from toolkit.plugin.manager import PluginManager
from toolkit.reference_interface.boundary import PADDING_ID, official_boundary
from toolkit.reference_interface.replay import replay
from toolkit.reference_interface.tensors import COUNTS, FRAME, OUTPUTS, RECURRENT, TRACK_ROWS, has_no_effect

pytestmark = pytest.mark.thorough

CAPACITY, BOXES = 5, 3
FLOATS = {"track_query": 4, "track_reference": 3, "track_box": 10}
"""Widths of the track tensors of the stand-in network."""

SCALARS = {"track_iou": "float", "track_score": "float", "track_save_period": "float"}
INTEGERS = ("track_id", "track_matched", "track_missed")


def stand_in() -> ModelProto:
    """A network with the interface of UniAD in which tracks come out as they went in, as many as are counted.

    Boxes are those of the tracks, `box_count` is one less than the tracks.
    """
    shapes = {name: f"float[{CAPACITY}, {width}]" for name, width in FLOATS.items()}
    shapes |= dict.fromkeys(SCALARS, f"float[{CAPACITY}]") | dict.fromkeys(INTEGERS, f"int32[{CAPACITY}]")
    shapes |= {"track_memory": f"float[{CAPACITY}, 4, 2]", "track_memory_padding": f"int32[{CAPACITY}, 4]"}
    frame = {
        "image": "float[2, 3, 4, 4]",
        "lidar2img": "float[2, 4, 4]",
        "can_bus": "float[18]",
        "timestamp": "float[1]",
        "l2g_rotation": "float[3, 3]",
        "l2g_translation": "float[3]",
        "command": "int32[1]",
        "use_previous": "int32[1]",
    }
    pose = {"timestamp": "float[1]", "l2g_rotation": "float[3, 3]", "l2g_translation": "float[3]"}
    state = {"bev": "float[6, 2]", **pose, **shapes, "track_count": "int32[1]", "next_track_id": "int32[1]"}
    inputs = [*(f"{kind} {name}" for name, kind in frame.items())]
    inputs += [f"{kind} prev_{name}" for name, kind in state.items()]
    results = {
        **{name: kind for name, kind in state.items() if name not in pose},
        **{"boxes": "float[3, 9]", "box_scores": "float[3]", "box_labels": "int32[3]", "box_ids": "int32[3]"},
        **{"box_count": "int32[1]", "box_rows": "int32[3]", "box_row_count": "int32[1]"},
        **{"plan": "float[6, 2]", "map_scores": "float[1]"},
    }
    passed = [f"{name} = Identity (prev_{name})" for name in state if name not in pose]
    first = "Slice ({}, zero, three, zero)"
    computed = [
        "boxes9 = Slice (prev_track_box, zero, nine, one)",
        f"boxes = {first.format('boxes9')}",
        f"box_scores = {first.format('prev_track_score')}",
        f"box_labels = {first.format('prev_track_matched')}",
        f"box_ids = {first.format('prev_track_id')}",
        f"box_rows = {first.format('prev_track_missed')}",
        "box_count = Sub (prev_track_count, one32)",
        "box_row_count = Identity (prev_track_count)",
        "offset = Cast <to: int = 1> (command)",
        "plan = Add (offset, nothing)",
        "map_scores = Identity (timestamp)",
    ]
    outputs = [f"{kind} {name}" for name, kind in results.items()]
    body = "\n".join((*passed, *computed))
    return text_model(
        f"m ({', '.join(inputs)}) => ({', '.join(outputs)}) {{ {body} }}",
        zero=np.array([0]),
        one=np.array([1]),
        three=np.array([BOXES]),
        nine=np.array([9]),
        one32=np.array([1], np.int32),
        nothing=np.zeros((6, 2), np.float32),
    )


def session_of(model: ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def official_inputs(session: onnxruntime.InferenceSession, rows: int, **given: np.ndarray) -> dict[str, np.ndarray]:
    """Ones for every input, with so many track rows."""
    types: dict[str, Any] = {"tensor(float)": np.float32, "tensor(int32)": np.int32}
    shapes = {i.name: [rows if isinstance(size, str) else size for size in i.shape] for i in session.get_inputs()}
    ones = {i.name: np.ones(shapes[i.name], types[i.type]) for i in session.get_inputs()}
    return {name: given.get(name, array) for name, array in ones.items()}


@pytest.mark.parametrize("padded", [False, True])
def test_interface_is_the_references(padded: bool) -> None:
    """Names, in order, and shapes; `seg_out` is missing, for the network has no occupancy."""
    model, outcome = rewritten(stand_in(), official_boundary(padded=padded), compare=False)
    inputs = {value.name: shape_of(value) for value in model.graph.input}
    assert [*inputs] == [*FRAME, *RECURRENT]
    assert inputs["img"] == [1, 2, 3, 4, 4]
    assert inputs["prev_bev"] == [6, 1, 2]
    assert inputs["prev_track_intances11"] == ["N", 4, 2]
    assert inputs["prev_l2g_r_mat"] == [1, 3, 3]
    outputs = {value.name: shape_of(value) for value in model.graph.output}
    official = [name for name in OUTPUTS if name != "seg_out"]
    assert [*outputs] == ([*official, *dict.fromkeys(COUNTS.values())] if padded else official)
    assert outputs["prev_track_intances9_out"] == [CAPACITY if padded else "track_count", 10]
    assert outputs["bboxes_dict_bboxes"] == [BOXES if padded else "box_count", 9]
    assert outputs["bev_embed"] == [6, 1, 2]
    assert len(outcome.changes) == len(inputs) + len(outputs)


def shape_of(value: onnx.ValueInfoProto) -> list[int | str]:
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]


def test_rows_come_out_as_they_went_in() -> None:
    """Padding exists only inside."""
    session = session_of(rewritten(stand_in(), official_boundary(padded=False), compare=False)[0])
    ids = np.array([-1, -1, 7], np.int32)
    outputs = run(session, official_inputs(session, rows=3, prev_track_intances3=ids))
    assert outputs["prev_track_intances3_out"].tolist() == [-1, -1, 7]
    assert outputs["prev_track_intances11_out"].shape == (3, 4, 2)
    assert outputs["scores"].shape == (2,)
    assert outputs["bbox_index"].shape == (3,)
    assert outputs["outs_planning"].shape == (1, 6, 2)


def test_padded_rows_are_known_again() -> None:
    """They come out with an id of their own; fed back, they do not count, and the network sees zeros."""
    session = session_of(rewritten(stand_in(), official_boundary(padded=True), compare=False)[0])
    ids = np.array([-1, -1, 7], np.int32)
    first = run(session, official_inputs(session, rows=3, prev_track_intances3=ids))
    assert first["prev_track_intances3_out"].tolist() == [-1, -1, 7, PADDING_ID, PADDING_ID]
    assert first["prev_track_intances1_out"].tolist() == [[1, 1, 1]] * 3 + [[0, 0, 0]] * 2
    assert [first[name].tolist() for name in dict.fromkeys(COUNTS.values())] == [[3], [2], [3]]
    state = {f"prev_track_intances{i}": first[f"prev_track_intances{i}_out"] for i in TRACK_ROWS}
    second = run(session, official_inputs(session, rows=CAPACITY, **state))
    assert all(np.array_equal(second[name], array) for name, array in first.items())


def test_command_is_a_number() -> None:
    """The reference takes it as a float."""
    session = session_of(rewritten(stand_in(), official_boundary(padded=False), compare=False)[0])
    outputs = run(session, official_inputs(session, rows=2, command=np.array([2], np.float32)))
    assert outputs["outs_planning"].max() == 2


def test_other_networks_are_refused() -> None:
    with pytest.raises(InputError, match="the model has no input 'image'; the reference deployment's interface"):
        rewritten("m (float[2] x) => (float[2] y) { y = Relu (x) }", official_boundary(padded=False), compare=False)


@pytest.fixture(scope="module")
def frames(frame_inputs_a: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Three frames of golden sequence A: the state of the first is empty, the others have tracks."""
    return [{k: v for k, v in frame.items() if not has_no_effect(k)} for frame in frame_inputs_a[:3]]


@pytest.fixture(scope="module")
def expected(bundle_a: Bundle, frames: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """What `replay` makes of it."""
    return list(replay(bundle_a, OnnxRuntimeSession(bundle_a), frames))


@pytest.mark.slow
@pytest.mark.parametrize("padded", [False, True])
def test_sequence_equals_replay(
    padded: bool,
    bundle_a: Bundle,
    frames: list[dict[str, np.ndarray]],
    expected: list[dict[str, np.ndarray]],
    plugins: PluginManager,
) -> None:
    """Every output of every frame, state fed back as an application would."""
    model = read_model(bundle_a.onnx)
    result = rewrite(model, [official_boundary(padded=padded)], plugins.custom_ops(), check=False)
    session = session_of(result.model)
    state = {name: np.zeros_like(a) for name, a in official_inputs(session, rows=901).items() if name in RECURRENT}
    fed_back = {name: f"{name}_out" for name in RECURRENT} | {"prev_bev": "bev_embed"}
    for frame, wanted in zip(frames, expected, strict=True):
        inputs = official_inputs(session, rows=901, **state)
        inputs |= {name: np.asarray(frame[name], inputs[name].dtype).reshape(inputs[name].shape) for name in FRAME}
        outputs = run(session, inputs)
        for name, array in wanted.items():
            np.testing.assert_array_equal(outputs[name][: len(array)], array, err_msg=name)
            assert padded or outputs[name].shape == array.shape
        state = {name: outputs[source] for name, source in fed_back.items()}
