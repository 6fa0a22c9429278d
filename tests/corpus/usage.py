"""Commands that are used wrongly, and outputs that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.corpus.case import MARK, Malformed, Sample, nothing, write

CONVERT = "convert {sample}/model.pth --config {sample}/model.toml --motion-anchors {sample}/anchors.npy"


def malformed_usage() -> Iterator[Malformed]:
    yield from command_lines()
    yield from outputs()
    yield from plugin_files()


def command_lines() -> Iterator[Malformed]:
    lines = {
        "fly": ("fly", "uniad-toolkit --help"),
        "--speed 9": ("--speed",),
        "convert": ("checkpoint", "uniad-toolkit convert --help"),
        "convert {sample}/model.pth": ("--output", "uniad-toolkit convert --help"),
        "convert a b -o out": ("uniad-toolkit convert --help",),
        "convert a -o": ("-o",),
        "run": ("bundle",),
        "run {sample}/bundle": ("frames",),
        "run {sample}/bundle {sample}/frames -o out --session tensorflow": ("--session", "onnxruntime"),
        "run {sample}/bundle {sample}/frames -o out --precision int8": ("int8", "uniad-toolkit run --help"),
        "run {sample}/bundle {sample}/frames -o out --precision fp16": ("--precision fp16", "use --session cuda"),
        "verify {sample}/bundle --precision bf16": ("--precision bf16", "torch and onnxruntime"),
        "run {sample}/bundle {sample}/frames -o out --pictures maybe": ("maybe", "uniad-toolkit run --help"),
        "replay {sample}/bundle {sample}/inputs.npz": ("--output",),
        "verify {sample}/bundle --length 0": ("--length",),
        "verify {sample}/bundle --length many": ("--length",),
        "verify {sample}/bundle --sessions torch": ("--sessions", "give two"),
        "verify {sample}/bundle --sessions torch,tensorflow": ("--sessions", "'tensorflow'"),
        "verify {sample}/bundle --frames {sample}/frames --inputs {sample}/inputs.npz": ("choose one",),
        "evaluate": ("RESULTS|BUNDLE", "uniad-toolkit evaluate --help"),
        "evaluate {sample}/results -o out": ("--data",),
        "evaluate {sample}/results --data {sample}/frames -o out": ("holds no ground truth", "give nuscenes:"),
        "evaluate {sample}/results --data infos:x -o out --metrics comfort": ("'comfort'", "known are"),
        "evaluate {sample}/results --data infos:x -o out --require speed": ("'speed'", "FIGURE<=NUMBER"),
        "evaluate {sample}/results --data infos:x -o out --require a/b<1": ("a/b < 1", "no metric 'a'"),
        "evaluate {sample}/bundle {sample}/results --data infos:x -o out": ("bundle", "evaluate it alone"),
        "inspect": ("path",),
        "plugins --plugin": ("--plugin", "uniad-toolkit --help"),
        "plugins --disable-plugin wheels": ("'wheels'", "known:"),
        f"{CONVERT} -o out --track-capacity 12": ("--track-capacity 12", "it must exceed 12"),
        f"{CONVERT} -o out --track-capacity 1e3": ("--track-capacity", "integer"),
        f"{CONVERT} -o out --track-capacity 999999999999": ("track_capacity", "999999999999"),
        f"{CONVERT} -o out --agent-capacity 0": ("--agent-capacity 0", "between 1 and 8"),
        f"{CONVERT} -o out --agent-capacity 9": ("--agent-capacity 9", "between 1 and 8"),
        "doctor --root nowhere": ("nowhere", "is not a folder"),
    }
    for line, words in lines.items():
        yield Malformed(f"usage: {line}", line, words, nothing)


def outputs() -> Iterator[Malformed]:
    run, replay = "run {sample}/bundle {sample}/frames", "replay {sample}/bundle {sample}/inputs.npz"
    cases = {
        f"{CONVERT} -o file": ("file", "choose another output"),
        f"{CONVERT} -o file --force": ("file is a file", "choose another output"),
        f"{CONVERT} -o folder --force": ("folder", "was not written by this toolkit"),
        f"{CONVERT} -o file/out": ("cannot write", "file/out"),
        f"{CONVERT} -o /proc/out": ("cannot write", "/proc/out"),
        f"{run} -o folder": ("already exists", "--force"),
        f"{run} -o file/out": ("cannot write", "file/out"),
        f"{run} -o {'x' * 300}": ("cannot write", "xxx"),
        f"{replay} -o folder": ("cannot write", "folder"),
        f"{replay} -o file/out.npz": ("cannot write", "file/out.npz"),
        "config {sample}/model.toml -o file/out.toml": ("cannot write", "file/out.toml"),
        "inspect {sample}/model.pth --json file/out.json": ("cannot write", "file/out.json"),
        "demo -o folder": ("already exists", "--force"),
    }
    for line, words in cases.items():
        yield Malformed(f"output: {line}", line, words, occupied_names)


def occupied_names(folder: Path, sample: Sample) -> None:
    (folder / "file").write_text("mine")
    (folder / "folder").mkdir()
    (folder / "folder/mine.txt").write_text("mine")


def plugin_files() -> Iterator[Malformed]:
    remedy = "plugin file bad.py"
    texts: dict[str, tuple[str, str]] = {
        "syntax": ("def", remedy),
        "error": ("1 / 0", "ZeroDivisionError"),
        "exit": ("raise SystemExit(0)", "SystemExit"),
        "unknown hook": (HOOK.format("uniad_wheels()", "()"), "uniad_wheels"),
        "unknown argument": (HOOK.format("uniad_commands(x)", "()"), "uniad_commands"),
        "other answer": (HOOK.format("uniad_submodules()", "[7]"), "sequence of Submodule"),
        "failing hook": (HOOK.format("uniad_submodules()", "1 / 0"), "ZeroDivisionError"),
    }
    for name, (text, words) in texts.items():
        yield Malformed(f"plugin: {name}", "plugins --plugin bad.py", ("bad.py", words), write("bad.py", text))
    yield Malformed("plugin: missing", "plugins --plugin bad.py", (remedy, "No such file"), nothing)
    yield Malformed("plugin: not Python", "plugins --plugin bad.txt", ("bad.txt", ".py"), write("bad.txt", MARK))


HOOK = """
from toolkit.hookspecs import hookimpl

@hookimpl
def {}:
    return {}
"""
