"""Malformed model configurations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from tests.corpus.case import MARK, Malformed, Sample, nothing, write
from tests.toolkit.config.official_style import STAGE2

CONVERT = "convert {{sample}}/model.pth --config {0} --motion-anchors {{sample}}/anchors.npy -o out"
COMMANDS = itertools.cycle(["config {0}", CONVERT])


def malformed_configs() -> Iterator[Malformed]:
    yield config("missing", "bad.py", None, "No such file")
    yield config("empty", "bad.py", b"", "is empty")
    yield config("other format", "bad.yaml", "model: UniAD", "ends neither in .py")
    yield from syntax()
    yield from code()
    yield from expressions()
    yield from bases()
    yield from unsupported()
    yield from tomls()


def config(name: str, file: str, text: bytes | str | None, *words: str) -> Malformed:
    make = nothing if text is None else write(file, text)
    return Malformed(f"config: {name}", next(COMMANDS).format(file), (file, *words), make)


def syntax() -> Iterator[Malformed]:
    texts: dict[str, bytes | str] = {
        "unclosed bracket": "model = dict(",
        "bad indentation": "model = 1\n  x = 2",
        "not Python": "<html>404</html>",
        "null bytes": b"model = 1\0",
        "not UTF-8": b"model = '\xff'",
        "nested 10,000 deep": "model = " + "[" * 10_000,
        "minus signs": "model = " + "-" * 50_000 + "1",
        "too long": "# " + "x" * 2**19,
        "picture": b"\xff\xd8\xff\xe0" + bytes(100),
    }
    for name, text in texts.items():
        yield config(name, "bad.py", text)


def code() -> Iterator[Malformed]:
    touch = f"open('{MARK}', 'w')"
    texts = {
        "open()": f"model = {touch}",
        "__import__()": f"model = __import__('os').system('touch {MARK}')",
        "import": "import os",
        "from import": "from os import system",
        "eval()": f'model = eval("{touch}")',
        "exec()": f'exec("{touch}")',
        "lambda": f"model = (lambda: {touch})()",
        "comprehension": f"model = [{touch} for i in range(3)]",
        "attribute": "model = ().__class__.__bases__",
        "function": f"def f():\n    {touch}",
        "class": f"class Model:\n    x = {touch}",
        "decorator": "@print\ndef f(): pass",
        "with": f"with {touch}: pass",
        "loop": "while True: pass",
        "f-string call": f'model = f"{{{touch}}}"',
        "walrus": f"model = (x := {touch})",
        "default argument": f"model = dict(a={touch})",
        "conditional": f"model = {touch} if 1 else 2",
        "assert": f"assert {touch}",
        "del": "model = 1\ndel model",
    }
    for name, text in texts.items():
        yield config(name, "bad.py", text, "is not allowed in a config; write the value itself")


def expressions() -> Iterator[Malformed]:
    texts = {
        "range of 10^12": "model = range(10 ** 12)",
        "list times 10^9": "model = [0] * 10 ** 9",
        "text times 10^9": "model = 'x' * 10 ** 9",
        "power of powers": "model = 9 ** 9 ** 9",
        "power of floats": "model = 9.0 ** 64 ** 2",
        "doubling": "x = [1]\n" + "x = [x, x]\n" * 60,
        "joining": "x = 'ab'\n" + "x = x + x\n" * 60,
        "f-strings": "x = 'ab'\n" + 'x = f"{x}{x}"\n' * 60,
        "division by zero": "model = 1 / 0",
        "unknown name": "model = somewhere",
        "unknown key": "model = dict(a=1)['b']",
        "text minus number": "model = 'a' - 1",
        "unhashable key": "model = {[]: 1}",
        "step of zero": "model = range(1, 2, 0)",
        "shift": "model = 1 << 10 ** 9",
    }
    for name, text in texts.items():
        yield config(name, "bad.py", text, "bad.py:", "write the value itself")


def bases() -> Iterator[Malformed]:
    def with_files(name: str, files: dict[str, str], *words: str) -> Malformed:
        def make(folder: Path, sample: Sample) -> None:
            for file, text in files.items():
                (folder / file).write_text(text)

        return Malformed(f"config: {name}", next(COMMANDS).format("bad.py"), words, make)

    yield with_files("its own base", {"bad.py": "_base_ = 'bad.py'"}, "bad.py", "is circular")
    circle = {"bad.py": "_base_ = './b.py'", "b.py": "_base_ = './c.py'", "c.py": "_base_ = './b.py'"}
    yield with_files("circle of bases", circle, "c.py", "is circular")
    yield with_files("missing base", {"bad.py": "_base_ = 'b.py'"}, "b.py", "No such file")
    yield with_files("base is a number", {"bad.py": "_base_ = 7"}, "bad.py", "give paths relative to the config")
    yield with_files("base is a folder", {"bad.py": "_base_ = '.'"}, "is a directory")
    yield with_files("base of 5,000 letters", {"bad.py": f"_base_ = '{'x' * 5000}'"}, "xxx")
    yield with_files("base is a device", {"bad.py": "_base_ = '/dev/zero'"}, "/dev/zero is not a regular file")
    chain = {f"b{i}.py": f"_base_ = 'b{i + 1}.py'" for i in range(50)} | {"bad.py": "_base_ = 'b0.py'"}
    yield with_files("fifty bases", chain, "more than 20 files by _base_")
    twice = {"bad.py": "_base_ = ['b.py', 'c.py']", "b.py": "model = 1", "c.py": "model = 2"}
    yield with_files("bases that disagree", twice, "bad.py", "assign 'model'; keep one of them")
    clash = {"bad.py": "_base_ = 'b.py'\nmodel = dict(a=1)", "b.py": "model = 2"}
    yield with_files("dict over a number", clash, "bad.py", "_delete_=True")


def unsupported() -> Iterator[Malformed]:
    """Configs of models that the toolkit does not have."""
    yield config("without a model", "bad.py", "x = 1", "it assigns no dict to 'model'")
    changes = (
        ('type="ResNet"', 'type="VoVNet"', "img_backbone.type"),
        ("depth=50", "depth=-1", "img_backbone.depth"),
        ("num_query=900", "num_query=-900", "num_query is -899"),
        ("num_query=900", "num_query=10**15", ""),
        ("num_query=900", "num_query=1e999", "num_query"),
        ("num_query=900", "num_query='900'", "num_query"),
        ("scales=[0.25]", "scales=[-1]", "image.scale"),
        ("scales=[0.25]", "scales=[1e9]", "image.scale"),
        ("mean=[123.675", "mean=['red'", "mean"),
        ("size_divisor=32", "size_divisor=0", "pad_multiple"),
        ("class_count = len(class_names)", "class_count = 9", "make them agree"),
        ("use_grid_mask=True", "surprise=True", "model.surprise is not supported"),
        ("memory_bank_len=4", "memory_bank_len=None", "memory_bank_len"),
    )
    for old, new, *words in changes:
        yield config(f"{new} for {old}", "bad.py", STAGE2.replace(old, new, 1), *words)


def tomls() -> Iterator[Malformed]:
    texts: dict[str, tuple[bytes | str, str]] = {
        "syntax": ("[bev", ""),
        "number for a table": ("bev = 3", "config.bev"),
        "list for a table": ("[[bev]]\nheight = 3", "config.bev"),
        "unknown table": ("[radar]\nbeams = 3", "'radar'"),
        "unknown field": ("[bev]\nhigh = 3", "'high'"),
        "text for a number": ("[bev]\nheight = 'x'", "bev.height"),
        "float for an integer": ("[bev]\nheight = 50.0", "bev.height"),
        "zero": ("[bev]\nheight = 0", "bev.height"),
        "negative": ("[tracking]\nqueries = -1", "tracking.queries"),
        "huge": ("[bev]\nheight = 99999999999999999999999999", "bev.height"),
        "NaN": ("[image]\nscale = nan", "image.scale"),
        "infinity": ("[image]\nscale = inf", "image.scale"),
        "date": ("embed = 1979-05-27", "embed"),
        "no such choice": ("can_bus_rotation = 'vector'", "expected scalar or quaternion, found 'vector'"),
        "no classes": ("class_names = []", "class_names"),
        "range backwards": ("[bev]\nx_range = [1, -1]", "bev.x_range"),
        "range of three": ("[bev]\nx_range = [1, 2, 3]", "bev.x_range"),
        "huge image": ("[image]\nscale = 1e6", "image.scale"),
        "negative spread": ("[image]\nstd = [1, -1, 1]", "image.std"),
        "nested deeply": ("x = " + "[" * 20_000, ""),
        "key of 30,000 parts": (".".join("a" * 30_000) + "=1", "more than 1000 dots"),
        "number of 5,000 digits": ("embed = " + "1" * 5000, ""),
        "number of 6,000 digits, read": ("embed = 0x" + "f" * 5000, "an integer of 6021 digits"),
        "not UTF-8": (b"x = '\xff'", ""),
        "too long": ("# " + "x" * 2**19, "larger than"),
    }
    for name, (text, words) in texts.items():
        yield config(f"TOML: {name}", "bad.toml", text, words)
    yield from unknown_classes()


def unknown_classes() -> Iterator[Malformed]:
    """Numbers of classes that the model does not have."""
    for field, old, new in (
        ("occupancy.vehicle_classes", "vehicle_classes = [0,", "vehicle_classes = [99,"),
        ("motion.class_groups", "[8]", "[99]"),
    ):

        def make(folder: Path, sample: Sample, old: str = old, new: str = new) -> None:
            text = (sample.folder / "model.toml").read_text()
            assert old in text
            (folder / "bad.toml").write_text(text.replace(old, new))

        yield Malformed(f"config: TOML: {field} of no class", CONVERT.format("bad.toml"), (field,), make)
