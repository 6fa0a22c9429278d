"""Official configs, in training and deployment form, as model configurations; and these compared with checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.toolkit.config.official_style import BASE_STAGE1, BASE_STAGE2, DEPLOYMENT, STAGE1, STAGE2, write_config
from toolkit.cli.convert import with_capacities, with_conventions
from toolkit.cli.main import run
from toolkit.config.check import check_config_against, check_values, decided_config
from toolkit.config.file import load_config, to_toml
from toolkit.config.model import (
    BevConfig,
    CanBusRotation,
    ImageConfig,
    ModelConfig,
    MotionConfig,
    YawConvention,
)
from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.weights.identity import fitting_config
from toolkit.wiring import join

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize("text", [STAGE1, STAGE2, DEPLOYMENT], ids=["stage 1", "stage 2", "deployment"])
def test_official_configs_are_the_defaults(tmp_path: Path, text: str) -> None:
    assert load_config(write_config(tmp_path, text)) == ModelConfig()


def test_the_conversion_target_changes_capacities_alone() -> None:
    compact, usual = load_config(CONFIGS / "uniad_tiny_compact.toml"), ModelConfig()
    assert compact.tracking != usual.tracking
    assert replace(compact, tracking=replace(compact.tracking, track_capacity=1150, agent_capacity=128)) == usual


def test_the_small_network_is_small() -> None:
    """Its weights travel, and all parts are there; as to the data it is UniAD-tiny."""
    small, usual = load_config(CONFIGS / "uniad_mini.toml"), ModelConfig()
    network = Network(join(PluginManager.load().submodules(), small))
    assert sum(parameter.numel() for parameter in network.parameters()) < 12e6
    assert (small.image.padded, small.bev.cells, small.class_names) == (
        usual.image.padded, usual.bev.cells, usual.class_names)  # fmt: skip


@pytest.mark.parametrize("name", ["uniad_tiny_stage1", "uniad_tiny_stage2"])
def test_readable_equivalents_say_the_same(name: str) -> None:
    assert load_config(CONFIGS / f"{name}.toml") == ModelConfig()


@pytest.mark.parametrize(("stage", "text"), [(1, BASE_STAGE1), (2, BASE_STAGE2)], ids=["stage 1", "stage 2"])
def test_official_configs_of_base_are_the_readable_ones(tmp_path: Path, stage: int, text: str) -> None:
    base = load_config(write_config(tmp_path, text))
    assert base == load_config(CONFIGS / f"uniad_base_stage{stage}.toml")
    assert (base.image.resized, base.image.padded, base.image.channel_order) == ((900, 1600), (928, 1600), "bgr")
    assert base.image.features == ((116, 200), (58, 100), (29, 50), (15, 25))
    assert (base.image.mean, base.image.std) == ((103.53, 116.28, 123.675), (1, 1, 1))
    assert (base.bev.height, base.bev.width, base.bev.layers) == (200, 200, 6)
    assert (base.map.attention_levels, base.angle_formula) == (4, "atan2")
    assert base.occupancy.resampled == (stage == 2)


def test_a_retrained_variant_is_honoured(tmp_path: Path) -> None:
    text = (
        STAGE2.replace("bev_columns = 50", "bev_columns = 100")
        .replace("area = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]", "area = [-60, -60, -4, 60, 60, 2]", 1)
        .replace("sample_index=-1", "bev_range=area")
        .replace("[-12.5, 12.5, 0.5]", "[-25.0, 25.0, 0.5]")
        .replace("num_query=900", "num_query=600")
        .replace("num_layers=6", "num_layers=4", 1)
        .replace("memory_bank_len=4", "memory_bank_len=3")
        .replace("score_thresh=0.4", "score_thresh=0.3", 1)
        .replace("depth=50", "depth=101")
        .replace("mean=[123.675", "mean=[120")
        .replace("scales=[0.25]", "scales=[0.333]")
        .replace("(1600, 900)", "(1280, 720)")
        .replace(', "traffic_cone"]', "]")
        .replace("[5, 9]]", "[5]]")
    )
    config = load_config(write_config(tmp_path, text))
    assert (config.bev.height, config.bev.width, config.bev.x_range, config.bev.z_range) == (
        100,
        100,
        (-60, 60),
        (-4, 2),
    )
    assert config.occupancy.cell_metres == 0.5
    assert (config.tracking.queries, config.tracking.track_capacity, config.tracking.layers) == (601, 850, 4)
    assert (config.tracking.memory_length, config.tracking.birth_score) == (3, 0.3)
    assert config.image.stage_blocks == (3, 4, 23, 3)
    assert (config.image.mean[0], config.image.resized, config.image.padded) == (120, (239, 426), (256, 448))
    assert len(config.class_names) == 9
    assert config.motion.class_groups[-1] == (5,)


def test_absent_thresholds_are_those_the_reference_assumes(tmp_path: Path) -> None:
    text = STAGE2.replace(" score_thresh=0.4, filter_score_thresh=0.35,", "").replace(" test_seg_thresh=0.1,", "")
    config = load_config(write_config(tmp_path, text))
    assert (config.tracking.birth_score, config.tracking.keep_score) == (0.2, 0.1)
    assert config.occupancy.score_threshold == 0.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('type="ResNet"', 'type="VoVNet"', "model.img_backbone.type is 'VoVNet'; supported: 'ResNet'"),
        ("depth=50", "depth=34", "model.img_backbone.depth is 34; it must be 50 or 101 or 152"),
        ('style="pytorch"', 'style="tf"', "model.img_backbone.style is 'tf'; it must be 'pytorch' or 'caffe'"),
        ('style="pytorch"', "dcn=dict(type='DCN')", "model.img_backbone.dcn.type is 'DCN'; supported: 'DCNv2'"),
        ('style="pytorch"', "dcn='DCNv2'", "model.img_backbone.dcn is 'DCNv2'; it must be a dict or None"),
        ("levels = 1", "levels = 4", "image.levels is 4; with image.stride 32 it must be 1"),
        ("num_outs=levels", "num_outs=2", r"num_levels is 1, but model.img_neck.num_outs is 2; give both the same"),
        (
            "out_indices=(3,)",
            "out_indices=(1, 2, 3)",
            r"in_channels is \[2048\], but the backbone gives \[512, 1024, 2048\]",
        ),
        (
            "out_indices=(3,)",
            "out_indices=(1, 3)",
            r"out_indices is \(1, 3\); it must be indices of the last stages, such",
        ),
        ("bevslicer=False", "bevslicer=2", "model.occ_head.bevslicer is 2; it must be True or False"),
        ("with_adapter=True", "with_adapter=False", "model.planning_head.with_adapter is False"),
        ("num_things_classes=3", "num_things_classes=5", "model.seg_head.num_things_classes is 5"),
        ("num_anchor=6", "num_anchor=9", "predict_modes is 6, but model.motion_head.num_anchor is 9"),
        ("dim = 256", "dim = 128", "128; supported: 256"),
        ("to_rgb=True", "to_rgb=0.5", "NormalizeMultiviewImage has to_rgb=0.5; it must be True or False"),
        ("size_divisor=32", "size=(256, 416)", "PadMultiViewImage has the argument size"),
        ("size_divisor=32", "size_divisor=20", "image.pad_multiple is 20; it must be a multiple of 32"),
        ('type="PadMultiViewImage"', 'type="Crop"', "the test pipeline has the step 'Crop'"),
        ("bev_h=bev_rows", "bev_h=60", "row_num_embed is 50, but model.pts_bbox_head.bev_h is 60"),
        ("[-12.5, 12.5, 0.5]", "[-10, 10, 0.5]", r"grid_conf.xbound is \[-10.0, 10.0, 0.5\]; supported: \[-12.5, 12.5"),
        ("max_num=300", "max_num=99", r"max_num is 99, but model.bbox_coder.max_num \(by default\) is 300"),
        ("area = [-51.2", "area = [-70", r"bev_range \(by default\) is"),
        ("class_count = len(class_names)", "class_count = 9", "num_classes .* is 10|num_classes.* is 9"),
        ("num_query=300, num_classes=4", "num_query='many', num_classes=4", "num_query is 'many'; it must be a whole"),
        ("use_grid_mask=True", "mystery=dict(a=1)", "model.mystery.a is not supported; remove it if"),
        ("motion_head=motion_head,", "", "model.motion_head is missing; a model has"),
        ("class_names = [", "class_names = [[]] + [", "class_names is .*; it must be a list of names"),
        ("num_layers=3, pc_range", "num_layers=0, pc_range", "bev.layers is 0; it must lie between 1 and"),
        ("\ntest_pipeline = [", "\ntest_pipeline = 'none' or [", "the construct BoolOp"),
        ("\nmodel = dict(\n", "\nmodell = dict(\n", "the name 'model', which no line above assigns"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in STAGE2
    with pytest.raises(InputError, match=rf"(?s)config\.py.*{message}") as error:
        load_config(write_config(tmp_path, STAGE2.replace(old, new, 1)))
    assert all("\n" not in line for line in error.value.args)


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    """Fixed values, absent keys, unknown ones, contradictions, and the images, each with what is supported."""
    text = (
        STAGE2.replace('style="pytorch"', 'style="tf"')
        .replace("num_things_classes=3,", "")
        .replace("use_grid_mask=True", "mystery=1")
        .replace("num_query=300, num_classes=4", "num_query='many', num_classes=4")
        .replace("class_count = len(class_names)", "class_count = 10\nclass_names = class_names[1:]")
        .replace("to_rgb=True", "to_rgb=0.5")
        .replace("scales=[0.25]", "scales=[]")
    )
    with pytest.raises(InputError) as error:
        load_config(write_config(tmp_path, text))
    headline, *faults = error.value.args
    assert headline.endswith("config.py: 7 settings do not fit; correct them, or train within what is supported")
    assert sorted(faults) == [
        "  NormalizeMultiviewImage has to_rgb=0.5; it must be True or False",
        "  RandomScaleImageMultiViewImage has scales=[]; it must be a list of one number",
        "  model.img_backbone.style is 'tf'; it must be 'pytorch' or 'caffe'",
        "  model.mystery is not supported; remove it if it only concerns training",
        "  model.seg_head.num_query is 'many'; it must be a whole number",
        "  model.seg_head.num_things_classes is missing; supported: 3; add the key",
        "  num_classes is 10, but class_names has 9; make them agree",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('add_extra_convs="on_output"', "add_extra_convs=False", "add_extra_convs is False; supported: 'on_output'"),
        ("fallback_on_stride=False", "fallback_on_stride=True", "dcn.fallback_on_stride is True; supported: False"),
        ("(False, False, True, True)", "(False, True)", "image.deformable_stages is .*; it needs 4 values"),
        ("bev_columns = 200", "bev_columns = 100", r"bev_size.0 \(by default\) is 200, but .*bev_h is 100"),
    ],
)  # fmt: skip
def test_what_is_refused_of_base_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"(?s)config\.py.*{message}"):
        load_config(write_config(tmp_path, BASE_STAGE2.replace(old, new, 1)))


def test_deformable_stages_need_their_settings(tmp_path: Path) -> None:
    """As in the reference, `stage_with_dcn` alone makes no convolution deformable."""
    text = BASE_STAGE2.replace('dcn=dict(type="DCNv2", deform_groups=1, fallback_on_stride=False)', "dcn=None")
    assert load_config(write_config(tmp_path, text)).image.deformable_stages == (False,) * 4


class TestToml:
    def test_several_faults_are_a_table(self, tmp_path: Path) -> None:
        (tmp_path / "own.toml").write_text("[bev]\nx_range = [5, -5]\n[tracking]\nqueries = 1200\n")
        with pytest.raises(InputError) as error:
            load_config(tmp_path / "own.toml")
        assert [line.partition(";")[0] for line in error.value.args[1:]] == [
            "  bev.x_range is 5.0 to -5.0",
            "  tracking.track_capacity is 1150",
        ]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[bev]\nheight = 'fifty'", "config.bev.height: expected int, found 'fifty'"),
            ("[bev]\nhigh = 50", "config.bev: unknown field 'high'; known fields: height"),
            ("[bev]\nx_range = [1]", "config.bev.x_range: expected a list of 2, found"),
            ("[image]\nmean = [1, 2, 'x']", r"config.image.mean\[2\]: expected float, found 'x'"),
            ("bev = 3", "config.bev: expected an object, found int"),
            ("[bev", "Expected ']'"),
            ("[bev]\nheight = -1", "bev.height is -1; it must lie between 1 and"),
            ("[bev]\nx_range = [5, -5]", "bev.x_range is 5.0 to -5.0; it must increase"),
            ("[image]\nscale = 1000", "image.scale makes images of 1600000x900000; choose"),
            ("[image]\nscale = 1e306", r"image.scale is 1e\+306; it must be positive, and at most 16777216"),
            ("[image]\nscale = nan", "image.scale is nan; it must be a finite number"),
            ("[tracking]\nqueries = 1200", "tracking.track_capacity is 1150; it must exceed tracking.queries, 1200"),
            ("class_names = []", "class_names is empty"),
            ("class_names = ['a', 'a']", "class_names holds a name twice"),
            ("can_bus_rotation = 'vector'", "config.can_bus_rotation: expected scalar or quaternion, found 'vector'"),
            ("yaw_convention = 1", "config.yaw_convention: expected str, found 1"),
        ],
    )
    def test_faults_are_named(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "own.toml").write_text(text)
        with pytest.raises(InputError, match=rf"own\.toml: {message}") as error:
            load_config(tmp_path / "own.toml")
        assert "\n" not in str(error.value)

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"ends neither in \.py .* nor in \.toml"):
            load_config(tmp_path / "config.yaml")

    @given(
        names=st.lists(st.text(min_size=1, max_size=9).filter(str.isprintable), min_size=1, max_size=4, unique=True),
        height=st.integers(1, 500),
        scale=st.floats(0.1, 1),
        groups=st.lists(st.lists(st.integers(0, 9)), min_size=1, max_size=3),
        rotation=st.sampled_from(CanBusRotation),
        yaw=st.sampled_from(YawConvention),
    )
    def test_every_configuration_survives(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        names: list[str],
        height: int,
        scale: float,
        groups: list[list[int]],
        rotation: CanBusRotation,
        yaw: YawConvention,
    ) -> None:
        config = ModelConfig(
            class_names=tuple(names),
            bev=BevConfig(height=height),
            image=ImageConfig(scale=scale),
            motion=MotionConfig(class_groups=tuple(map(tuple, groups))),
            can_bus_rotation=rotation,
            yaw_convention=yaw,
        )
        path = tmp_path_factory.mktemp("toml") / "own.toml"
        path.write_text(to_toml(config), encoding="utf-8")
        assert load_config(path) == config

    def test_an_official_config_becomes_the_readable_one(self, tmp_path: Path) -> None:
        (tmp_path / "own.toml").write_text(to_toml(load_config(write_config(tmp_path))))
        assert load_config(tmp_path / "own.toml") == load_config(CONFIGS / "uniad_tiny_stage2.toml")


SUBMODULES = PluginManager.load().submodules()
SMALL = ModelConfig(bev=BevConfig(height=4, width=6, layers=1), class_names=tuple("abcdefghij"))


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of a network over a small BEV."""
    network = Network(join(PluginManager.load().submodules(), SMALL))
    return {key: tuple(value.shape) for key, value in network.weights().items()}


class TestAgainstCheckpoint:
    def test_every_rule_holds_for_the_networks_own_weights(self, shapes: dict[str, tuple[int, ...]]) -> None:
        check_values(SMALL)
        check_config_against(SMALL, shapes, SUBMODULES)

    def test_every_difference_is_named_on_one_line(self, shapes: dict[str, tuple[int, ...]]) -> None:
        other = replace(SMALL, bev=replace(SMALL.bev, height=50, layers=3), class_names=("car",))
        with pytest.raises(InputError) as error:
            check_config_against(other, shapes, SUBMODULES)
        assert str(error.value) == (
            "the configuration is not the checkpoint's: "
            "bev.height is 50 where the checkpoint has 4 (pts_bbox_head.positional_encoding.row_embed.weight); "
            "bev.height x bev.width is 300 where the checkpoint has 24 (pts_bbox_head.bev_embedding.weight); "
            "bev.layers is 3 where the checkpoint has 1 (pts_bbox_head.transformer.encoder.layers.*); "
            "number of class_names is 1 where the checkpoint has 10 (pts_bbox_head.cls_branches.0.6.weight); "
            "convert with the --config of its training"
        )

    def test_parts_that_another_plugin_replaces_are_not_compared(self, shapes: dict[str, tuple[int, ...]]) -> None:
        other = replace(SMALL, planning=replace(SMALL.planning, steps=9))
        with pytest.raises(InputError, match=r"planning\.steps is 9 where the checkpoint has 6"):
            check_config_against(other, shapes, SUBMODULES)
        check_config_against(other, shapes, [s for s in SUBMODULES if s.name != "planning"])

    def test_a_fitting_configuration_is_named(self, shapes: dict[str, tuple[int, ...]]) -> None:
        other = replace(SMALL, bev=replace(SMALL.bev, layers=3))
        with pytest.raises(InputError, match=r"; convert with --config configs/uniad_base_stage2\.toml$"):
            check_config_against(other, shapes, SUBMODULES, "configs/uniad_base_stage2.toml")

    @pytest.mark.parametrize(("configured", "trained"), [("tiny", "base"), ("base", "tiny")])
    def test_a_checkpoint_of_the_other_variant_ends_with_its_configuration(self, configured: str, trained: str) -> None:
        configs = {name: load_config(CONFIGS / f"uniad_{name}_stage2.toml") for name in (configured, trained)}
        with torch.device("meta"):
            entries = Network(join(SUBMODULES, configs[trained])).weights()
        shapes = {key: tuple(value.shape) for key, value in entries.items()}
        fitting = fitting_config(entries, configs[configured])
        with pytest.raises(
            InputError, match=rf"image\.stage_blocks.*; convert with --config configs/uniad_{trained}_stage2\.toml$"
        ) as refusal:
            check_config_against(configs[configured], shapes, SUBMODULES, fitting)
        assert len(refusal.value.args) == 1

    def test_the_checkpoint_decides_on_the_levels_of_the_map(self) -> None:
        """Configurations of UniAD-base say four, of which published weights may have had one."""
        key = "seg_head.transformer.encoder.layers.0.attentions.0.attention_weights.bias"
        base = load_config(CONFIGS / "uniad_base_stage2.toml")
        assert decided_config(base, {key: (128,)}, SUBMODULES) == (base, "")
        assert decided_config(base, {key: ()}, SUBMODULES) == (base, "")
        config, note = decided_config(base, {key: (32,)}, SUBMODULES)
        assert config == replace(base, map=replace(base.map, attention_levels=1))
        assert note == "map.attention_levels is 1, not 4: the checkpoint decides"

    def test_a_planner_without_adapter_is_of_version_1_0(self, shapes: dict[str, tuple[int, ...]]) -> None:
        without = {key: shape for key, shape in shapes.items() if "bev_adapter" not in key}
        with pytest.raises(InputError, match=r"no planning_head\.bev_adapter\.\*: it is of UniAD v1\.0, whose planner"):
            check_config_against(SMALL, without, SUBMODULES)

    def test_class_groups_hold_every_class_once(self, shapes: dict[str, tuple[int, ...]]) -> None:
        groups = ((0, 1, 2, 3, 4), (6, 7), (8,), (5, 5))
        with pytest.raises(
            InputError, match=r"motion\.class_groups holds the classes \[0, 1, 2, 3, 4, 5, 5, 6, 7, 8\]"
        ):
            check_config_against(replace(SMALL, motion=MotionConfig(class_groups=groups)), shapes, SUBMODULES)


class TestCommands:
    def test_config_shows_and_writes_the_readable_form(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        official = str(write_config(tmp_path, DEPLOYMENT))
        assert run(["config", official]) == 0
        assert capsys.readouterr().out == to_toml(ModelConfig())
        assert run(["config", official, "-o", str(tmp_path / "own.toml")]) == 0
        assert load_config(tmp_path / "own.toml") == ModelConfig()

    def test_convert_compares_the_config_with_the_checkpoint(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        blocks = {f"img_backbone.layer{i}.{j}.bn1.weight": torch.ones(1) for i in (1, 2, 3, 4) for j in range(3)}
        torch.save(blocks, tmp_path / "weights.pth")
        config = str(write_config(tmp_path, STAGE2.replace("depth=50", "depth=101")))
        arguments = ["convert", str(tmp_path / "weights.pth"), "-o", str(tmp_path / "bundle"), "--config", config]
        assert run(arguments) == 2
        assert "image.stage_blocks[2] is 23 where the checkpoint has 3" in capsys.readouterr().err
        assert not (tmp_path / "bundle").exists()

    def test_capacities_of_the_command_line_override_the_config(self) -> None:
        config = replace(ModelConfig(), tracking=replace(ModelConfig().tracking, track_capacity=1000))
        assert with_capacities(config, None, 5).tracking.track_capacity == 1000
        assert with_capacities(config, 950, None).tracking.track_capacity == 950
        with pytest.raises(InputError, match="--track-capacity 901 leaves no room for survivors"):
            with_capacities(config, 901, None)

    @pytest.mark.parametrize("text", [STAGE2, BASE_STAGE2], ids=["tiny", "base"])
    def test_conventions_of_the_command_line_override_the_config(self, tmp_path: Path, text: str) -> None:
        """An official config does not tell by which version of UniAD it was trained."""
        official = load_config(write_config(tmp_path, text))
        both = with_conventions(official, CanBusRotation.QUATERNION, YawConvention.HEADING)
        assert (both.can_bus_rotation, both.yaw_convention) == ("quaternion", "heading")
        assert with_conventions(both, None, None) == both
        assert with_conventions(both, CanBusRotation.SCALAR, YawConvention.CLOCKWISE) == official

    def test_all_reported_boxes_fit_into_the_tracks(self) -> None:
        config = replace(ModelConfig(), tracking=replace(ModelConfig().tracking, queries=61))
        with pytest.raises(InputError, match="--track-capacity 100 is too small; it must hold the 300 reported boxes"):
            with_capacities(config, 100, None)
