"""A network that was rewritten once is read from then on, and computes the same to the last bit."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.toolkit.engines.gpu.test_parts_file import CPU, IDENTITY, Layer, parts_of
from tests.toolkit.toy_bundle import CONFIG, write_toy_bundle
from toolkit.bundle import Bundle, PackageRecord
from toolkit.config.model import ModelConfig
from toolkit.data.probe import probe_frames
from toolkit.engines.gpu import kept
from toolkit.engines.gpu.compiled.ahead import COMPLETE
from toolkit.engines.gpu.compiled.direct_record import REASON
from toolkit.engines.gpu.compiled.network import compile_parts
from toolkit.engines.gpu.compiled.parts_file import read_parts
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart, rewrite_network
from toolkit.engines.gpu.kept import Entry, bundle_parts, entry_of, kept_parts
from toolkit.engines.torch import bundle_graph, load_network
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.storage.private_folder import private_folder


def outputs(parts: list[RewrittenPart], bundle: Bundle, plugins: PluginManager) -> list[dict[str, Tensor]]:
    """Of three frames with the state fed back; a new scene begins with the third."""
    graph = bundle_graph(bundle, plugins)
    function = compile_parts(parts, graph, inductor=False)
    zeros = {spec.name: torch.from_numpy(spec.zeros(CONFIG.dimensions())) for spec in graph.inputs}
    state = {feedback.input: zeros[feedback.input] for feedback in graph.states}
    given = []
    with torch.inference_mode():
        for frame in probe_frames(CONFIG, 3, scene_change=2):
            fed = {name: torch.from_numpy(frame[name]) for name in zeros if name in frame}
            given.append(function(fed | state))
            state = {feedback.input: (fed | given[-1])[feedback.source] for feedback in graph.states}
    return given


@pytest.mark.slow
def test_kept_parts_compute_the_same_to_the_last_bit(
    toy: Bundle, plugins: PluginManager, folder: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that were made, in FP16 and where FP32 is kept; nothing is exported again, and no weights are read."""
    made = rewrite_network(load_network(toy, plugins), Precision.FP16)
    monkeypatch.setattr(kept, "load_network", lambda bundle, plugins: nn.Identity())
    monkeypatch.setattr(kept, "rewrite_network", lambda network, precision: made)
    first, _ = bundle_parts(toy, plugins, Precision.FP16, CPU, warn=said.append)
    monkeypatch.setattr(kept, "load_network", None)
    second, _ = bundle_parts(toy, plugins, Precision.FP16, CPU, warn=said.append)
    assert said == []
    assert {part.precision for part in second} == {Precision.FP16, Precision.FP32}
    runs = [outputs(parts, toy, plugins) for parts in (made, first, second)]
    for one, *others in zip(*runs, strict=True):
        assert len(one) > 20
        for other in others:
            assert one.keys() == other.keys()
            for name, tensor in one.items():
                assert torch.equal(tensor, other[name]), name


def test_parts_that_a_compiler_has_to_read_are_told(
    plugins: PluginManager, folder: Path, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every start, for each takes the seconds that the compiler's import does."""
    toy = write_toy_bundle(tmp_path / "toy", plugins, without=("occupancy", "map_segmentation", "motion", "planning"))
    made = parts_of(Layer(), torch.ones(2, 4))
    monkeypatch.setattr(kept, "load_network", lambda bundle, plugins: nn.Identity())
    monkeypatch.setattr(kept, "rewrite_network", lambda network, precision: made)
    compiled = entry_of(toy, plugins, Precision.FP32, CPU).folder / kept.COMPILED
    compiled.mkdir()
    (compiled / COMPLETE).touch()
    bundle_parts(toy, plugins, Precision.FP32, CPU, inductor=True, warn=said.append)
    assert said == []
    (compiled / f"0-abc{REASON}").write_text("names new_thing", encoding="utf-8")
    bundle_parts(toy, plugins, Precision.FP32, CPU, inductor=True, warn=said.append)
    assert said == ["torch's compiler has to read 1 of 1 parts, which takes seconds: names new_thing"]


class Rewriting:
    """Stands for the network's rewriting, and counts how often it is asked for."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> list[RewrittenPart]:
        self.count += 1
        return parts_of(Layer(), torch.ones(2, 4))


@pytest.fixture
def entry(folder: Path) -> Entry:
    """An entry of a network that is rewritten quickly."""
    return Entry(private_folder(private_folder(folder) / "0123456789ab-cpu-fp32-0123456789ab"), IDENTITY)


class TestEntry:
    def test_what_is_kept_is_not_made_again(self, entry: Entry, said: list[str]) -> None:
        rewriting = Rewriting()
        for _ in range(3):
            (part,) = kept_parts(entry, rewriting, CPU, said.append)
            assert part.outputs == ("largest", "where")
        assert rewriting.count == 1
        assert said == []
        assert stat.S_IMODE(entry.folder.stat().st_mode) == 0o700

    @pytest.mark.parametrize("content", [b"", b"something else", None])
    def test_a_damaged_or_outdated_one_is_made_again(
        self, entry: Entry, said: list[str], content: bytes | None
    ) -> None:
        rewriting = Rewriting()
        if content is None:
            kept_parts(Entry(entry.folder, {"of": "an earlier version"}), rewriting, CPU, said.append)
        else:
            entry.parts.write_bytes(content)
        for _ in range(2):
            kept_parts(entry, rewriting, CPU, said.append)
        (line,) = said
        assert line.startswith(f"{entry.parts} is not used, and is made again: it is ")
        assert rewriting.count == (2 if content is None else 1)

    def test_it_may_be_removed_at_any_time(self, entry: Entry, said: list[str]) -> None:
        """Before the parts are written, and while those that were read are in use."""
        rewriting = Rewriting()

        def removing() -> list[RewrittenPart]:
            shutil.rmtree(entry.folder)
            return rewriting()

        kept_parts(entry, removing, CPU, said.append)
        (part,) = kept_parts(entry, rewriting, CPU, said.append)
        shutil.rmtree(entry.folder.parent)
        assert part.module(torch.ones(2, 4))[0].shape == (4,)
        kept_parts(entry, rewriting, CPU, said.append)
        assert rewriting.count == 2
        assert said == []
        assert stat.S_IMODE(entry.folder.parent.stat().st_mode) == 0o700

    def test_a_disk_that_takes_nothing_costs_time_alone(
        self, entry: Entry, said: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(kept, "write_parts", full)
        (part,) = kept_parts(entry, Rewriting(), CPU, said.append)
        assert part.module(torch.ones(2, 4))[0].shape == (4,)
        (line,) = said
        assert line.startswith("the rewritten network is not kept: ")
        assert "No space left" in line
        assert list(entry.folder.iterdir()) == []

    def test_those_not_used_for_longest_are_removed(
        self, entry: Entry, said: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing else in the folder is touched."""
        monkeypatch.setattr(kept, "MOST_ENTRIES", 3)
        others = [entry.folder.with_name(f"{number:012}-cpu-fp32-{number:012}") for number in range(4)]
        for age, other in enumerate(others):
            private_folder(other)
            (other / kept.PARTS).write_text("parts")
            os.utime(other / kept.PARTS, (1e9 - age, 1e9 - age))
        (entry.folder.parent / "mine").mkdir()
        kept_parts(entry, Rewriting(), CPU, said.append)
        assert {path.name for path in entry.folder.parent.iterdir()} == {
            entry.folder.name, others[0].name, others[1].name, "mine",
        }  # fmt: skip
        monkeypatch.setattr(kept, "MOST_BYTES", 0)
        kept.remove_old_entries(entry)
        assert {path.name for path in entry.folder.parent.iterdir()} == {entry.folder.name, "mine"}

    @pytest.mark.slow
    def test_two_processes_may_make_it_at_once(self, entry: Entry) -> None:
        """Each uses what it made, or what the other wrote, which is the same."""
        script = f"""
import time
from pathlib import Path
from tests.toolkit.engines.gpu.test_kept import Rewriting
from tests.toolkit.engines.gpu.test_parts_file import CPU, IDENTITY
from toolkit.engines.gpu.kept import Entry, kept_parts
rewriting = Rewriting()
def slow():
    Path({str(entry.folder.parent)!r}, "begun").open("a").write("x")
    while Path({str(entry.folder.parent)!r}, "begun").stat().st_size < 2: time.sleep(0.01)
    return rewriting()
(part,) = kept_parts(Entry(Path({str(entry.folder)!r}), IDENTITY), slow, CPU, print)
print(part.outputs)
"""
        both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.communicate(timeout=120)[0] for process in both] == ["('largest', 'where')\n"] * 2
        assert [path.name for path in entry.folder.iterdir()] == [kept.PARTS]
        assert len(read_parts(entry.parts, IDENTITY, CPU)) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs g++ on a CPU")
def test_what_the_compiler_made_is_found_by_another_process(entry: Entry) -> None:
    """Graphs that were read are the same to it every time; those in the first process were read as well."""
    script = f"""
import json
from pathlib import Path
import torch
from tests.toolkit.engines.gpu.test_kept import Rewriting
from tests.toolkit.engines.gpu.test_parts_file import CPU, IDENTITY
from toolkit.engines.gpu.compiled.network import compile_part
from toolkit.engines.gpu.kept import Entry, keep_compiled, kept_parts
entry = Entry(Path({str(entry.folder)!r}), IDENTITY)
keep_compiled(entry)
(part,) = kept_parts(entry, Rewriting(), CPU, print)
with torch.inference_mode():
    compile_part(part)({{"x": torch.ones(2, 4)}})
from torch._dynamo.utils import counters
print(json.dumps({{name: counters["inductor"][f"fxgraph_cache_{{name}}"] for name in ("hit", "miss")}}))
"""
    own = {name: value for name, value in os.environ.items() if not name.endswith("_CACHE_DIR")}
    runs = [
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=own).stdout
        for _ in range(2)
    ]
    assert [json.loads(output) for output in runs] == [{"hit": 0, "miss": 1}, {"hit": 1, "miss": 0}]
    assert (entry.folder / "inductor").is_dir()


def test_submodules_of_others_are_built_for_the_operators_that_they_bring(
    toy: Bundle, plugins: PluginManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = list[str]()

    def building(name: str) -> Callable[[ModelConfig], nn.Module]:
        def build(config: ModelConfig) -> nn.Module:
            built.append(name)
            return nn.Identity()

        return build

    offered = [replace(submodule, build=building(submodule.name)) for submodule in plugins.submodules()]
    monkeypatch.setattr(plugins, "submodules", lambda: offered)
    kept.import_operators(toy, plugins)
    assert built == []
    first, second, *rest = toy.submodules
    theirs = replace(first, plugin_sha256="0123"), replace(second, plugin="of_a_package"), *rest
    package = PackageRecord("of_a_package", "package", "1.0", "4567")
    kept.import_operators(replace(toy, submodules=theirs, packages=(package,)), plugins)
    assert built == [first.name, second.name]


def test_compilers_keep_theirs_there(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user says where; what torch said by itself, and another entry before, does not count."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    other = Entry(entry.folder.with_name("another"), IDENTITY)
    for variable in kept.COMPILERS:
        monkeypatch.setenv(variable, default_cache_dir())  # so that it is as before after the test
    monkeypatch.delenv("TRITON_CACHE_DIR")
    for each in (other, entry):
        kept.keep_compiled(each)
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(each.folder / "inductor")
        assert os.environ["TRITON_CACHE_DIR"] == str(each.folder / "triton")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/mine")
    kept.keep_compiled(other)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/mine"
    assert os.environ["TRITON_CACHE_DIR"] == str(other.folder / "triton")


@pytest.mark.slow
def test_a_second_start_imports_no_exporter(
    plugins: PluginManager, folder: Path, tmp_path: Path, said: list[str]
) -> None:
    toy = write_toy_bundle(tmp_path / "toy", plugins, without=("occupancy", "map_segmentation", "motion", "planning"))
    bundle_parts(toy, plugins, Precision.FP16, CPU, warn=said.append)
    script = f"""
import sys, json
from pathlib import Path
from benchmarks.gpu_emulation import EmulatedSession
from toolkit.bundle import Bundle
from toolkit.data.probe import probe_frame
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.temporal_runner import TemporalRunner
bundle, plugins = Bundle.read(Path({str(toy.path)!r})), PluginManager.load()
session = EmulatedSession.of_bundle(bundle, plugins, Precision.FP16, print)
print(json.dumps(sorted(sys.modules)))
TemporalRunner(bundle, session).step(probe_frame(bundle.config, 0, continues=False))
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert output.stderr == ""
    modules = json.loads(output.stdout)
    # When a custom op is called for the first time, torch itself imports its compiler.
    exporters = ("torch.export._trace", "torch.onnx", "torch._dynamo", "onnx")
    assert [name for name in modules if name.startswith(exporters)] == []
    assert [name for name in modules if name.startswith("plugins.") and name.endswith(".model")] == []
