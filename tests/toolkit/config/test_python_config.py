"""The reader of mmcv-style Python configs: plain values only, nothing is run, everything is bounded."""

from __future__ import annotations

import os
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.config.official.python_config import MAX_BYTES, MAX_ELEMENTS, read_python_config
from toolkit.errors import InputError

Read = Callable[[str], dict[str, Any]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a config with the given text."""

    def read_text(text: str) -> dict[str, Any]:
        path = tmp_path / "config.py"
        path.write_text(text)
        return read_python_config(path)

    return read_text


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("[1, 2.5, 'a', None, True]", [1, 2.5, "a", None, True]),
        ("(-1, +2, not 0)", (-1, 2, True)),
        ("{'a': 1, **{'b': 2}}", {"a": 1, "b": 2}),
        ("dict(a=1, **dict(b=(2,)))", {"a": 1, "b": (2,)}),
        ("dict({'a': 1}, b=2)", {"a": 1, "b": 2}),
        ("[*range(3), *(7,)]", [0, 1, 2, 7]),
        ("2 ** 3 // 3 % 2 - 1 / 4 * 2", -0.5),
        ("'a' + 2 * 'b' + f'{1 + 1}.{None}'", "abb2.None"),
        ("[0] * 2 + [1]", [0, 0, 1]),
        ("max([1, 3, 2]) - min(4, 2) + len('abc')", 4),
        ("dict(a=[1, 2])['a'][-1]", 2),
        ("[1, 2, 3, 4][1:3]", [2, 3]),
    ],
)
def test_values_are_what_python_makes_of_them(read: Read, expression: str, value: object) -> None:
    assert read(f"x = {expression}")["x"] == value == eval(expression)


def test_names_stand_for_what_was_assigned_above(read: Read) -> None:
    assert read("'A docstring.'\na = b = 2\nc = [a, b]\na = 3\n__all__ = []") == {"a": 3, "b": 2, "c": [2, 2]}


@pytest.mark.parametrize(
    ("text", "construct"),
    [
        ("import os", "an import"),
        ("x = __import__('os').system('touch ran')", "a call"),
        ("x = open('ran', 'w')", r"the call open\(…\)"),
        ("x = 'a'.join", r"the attribute \.join"),
        ("x = [i for i in (1, 2)]", "the construct ListComp"),
        ("x = lambda: 1", "the construct Lambda"),
        ("x = {{_base_.model}}", "template in double braces"),
        ("x = 1 if True else 2", "the construct IfExp"),
        ("x = b'bytes'", "the construct Constant"),
        ("x = f'{1:>9}'", "an f-string with a format"),
        ("x = 1\nif x:\n  y = 2", "the construct If"),
        ("x = []\nx[0] = 1", "an assignment to anything but plain names"),
        ("x += 1", "an assignment to anything but plain names"),
        ("x = y", "the name 'y'"),
        ("x = '%d' % 3", "Mod of str and int"),
        ("x = 'a' + 1", "Add of str and int"),
        ("x = range('a')", "a str instead of int"),
        ("x = max()", r"max\(\) with 0 arguments"),
        ("x = [1][3]", "list index out of range"),
        ("x = {'a': 1}['b']", "'b'"),
        ("x = 1 / 0", "division by zero"),
        ("x = (-1) ** 0.5", "a complex instead of"),
        ("x = '\\ud800'", "surrogates not allowed"),
        ("x = {'a\\n': 1}", "a key with unprintable characters"),
        ("x = (1", "was never closed"),
    ],
)
def test_refused_constructs_are_named_with_their_place(read: Read, tmp_path: Path, text: str, construct: str) -> None:
    line = text.count("\n") + 1 if "if x" not in text else 2
    with pytest.raises(InputError, match=rf"config\.py:{line}: .*{construct}") as error:
        read(text)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        "x = range(10 ** 9)",
        "x = 'a' * 10 ** 9",
        "x = 9 ** 9 ** 9",
        "x = 2 ** 64",
        "x = [[0] * 1000] * 1000",
        "x = 10.0 ** 60 ** 60",
        "x = 1" + "0" * 5000,
        "x = " + "-" * 90_000 + "1",
        "x = 1" + " + 1" * 50_000,
        "x = 1" + " + 1" * 100,
        "x0 = []\n" + "".join(f"x{i + 1} = [x{i}]\n" for i in range(100)),
        "x0 = [1]\n" + "".join(f"x{i + 1} = [x{i}, x{i}]\n" for i in range(50)),
        "x0 = dict(a=1)\n" + "".join(f"x{i + 1} = dict(a=x{i}, b=x{i})\n" for i in range(50)),
        "x0 = 'ab'\n" + "".join(f"x{i + 1} = x{i} + x{i}\n" for i in range(50)),
        "x = 0\n" * (MAX_BYTES // 6 + 1),
    ],
    ids=lambda text: text[:24],
)
def test_oversized_values_are_refused_at_once(read: Read, text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InputError):
        read(text)
    assert time.perf_counter() - started < 2


class TestBases:
    def test_dicts_are_merged_and_everything_else_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "base.py").write_text("a = 1\nm = dict(x=dict(p=1, q=[1, 2]), y=1)")
        (tmp_path / "own.py").write_text("_base_ = 'base.py'\nm = dict(x=dict(q=[3]), z=2)")
        assert read_python_config(tmp_path / "own.py") == {"a": 1, "m": {"x": {"p": 1, "q": [3]}, "y": 1, "z": 2}}

    def test_delete_replaces_a_dict(self, tmp_path: Path) -> None:
        (tmp_path / "base.py").write_text("m = dict(x=dict(p=1))")
        (tmp_path / "own.py").write_text("_base_ = ['base.py']\nm = dict(x=dict(_delete_=True, q=2))")
        assert read_python_config(tmp_path / "own.py") == {"m": {"x": {"q": 2}}}

    def test_bases_have_bases_relative_to_themselves(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep/lowest.py").write_text("a = 1\nb = 1")
        (tmp_path / "deep/middle.py").write_text("_base_ = './lowest.py'\nb = 2")
        (tmp_path / "own.py").write_text("_base_ = 'deep/middle.py'\nc = 3")
        assert read_python_config(tmp_path / "own.py") == {"a": 1, "b": 2, "c": 3}

    def test_data_set_and_runtime_defaults_may_be_absent(self, read: Read) -> None:
        assert read("_base_ = ['../_base_/datasets/nus-3d.py']\na = 1") == {"a": 1}

    @pytest.mark.parametrize(
        ("files", "reason"),
        [
            ({"own.py": "_base_ = 'own.py'"}, "circular"),
            ({"own.py": "_base_ = 'b.py'", "b.py": "_base_ = './x/../own.py'", "x/c.py": ""}, "circular"),
            ({"own.py": "_base_ = 'absent.py'"}, "absent.py cannot be read: No such file"),
            ({"own.py": "_base_ = 3"}, "_base_ is not a path"),
            ({"own.py": "_base_ = ['a\\0b']"}, "_base_ is not a path"),
            ({"own.py": f"_base_ = {'a' * 5000!r}"}, "File name too long"),
            ({"own.py": "_base_ = ['a.py', 'b.py']", "a.py": "x = 1", "b.py": "x = 2"}, "two _base_ files assign 'x'"),
            ({"own.py": "_base_ = 'a.py'\nm = dict(x=dict())", "a.py": "m = dict(x=1)"}, r"m\.x is a dict where its"),
            ({"own.py": "_base_ = 'a.py'", "a.py": "import os"}, r"a\.py:1: an import"),
            ({"own.py": "_base_ = ['a.py'] * 30", "a.py": "'empty'"}, "more than 20 files"),
        ],
    )
    def test_faulty_bases_are_refused(self, tmp_path: Path, files: dict[str, str], reason: str) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=reason) as error:
            read_python_config(tmp_path / "own.py")
        assert "\n" not in str(error.value)


def test_pipes_and_binary_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(InputError, match="not a regular file"):
        read_python_config(tmp_path / "pipe.py")
    (tmp_path / "binary.py").write_bytes(b"x = '\xff'")
    with pytest.raises(InputError, match="not a text file"):
        read_python_config(tmp_path / "binary.py")


EXPRESSIONS = st.recursive(
    st.sampled_from(["1", "-2", "0.5", "'a'", "None", "a", "b", "10**9", "x()", "open('ran','w')", "a.b", "9**9**9"]),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "@", "<<"]), inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("dict(k={}, **{})".format, inner, inner),
        st.builds("{}[{}]".format, inner, inner),
        st.builds("{}({})".format, st.sampled_from(["max", "min", "len", "range", "dict", "eval", "exec"]), inner),
        st.builds("[{} for a in {}]".format, inner, inner),
    ),
    max_leaves=20,
)


def values_or_error(read: Read, text: str) -> str:
    """The values of a config, or why it was refused; any other error fails the test."""
    try:
        return repr(read(text))
    except InputError as error:
        return str(error)


@settings(max_examples=200, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.tuples(st.sampled_from("abc"), EXPRESSIONS), max_size=6))
def test_any_program_gives_bounded_values_or_one_input_error(read: Read, lines: list[tuple[str, str]]) -> None:
    outcome = values_or_error(read, "\n".join(f"{name} = {expression}" for name, expression in lines))
    assert "\n" not in outcome
    assert len(outcome) < 100 * MAX_ELEMENTS
    assert not Path("ran").exists()


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(string.printable + "é\0\ufeff", max_size=80))
def test_any_text_gives_values_or_one_input_error(read: Read, text: str) -> None:
    assert "\n" not in values_or_error(read, text)
