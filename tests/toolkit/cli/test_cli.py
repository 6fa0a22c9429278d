"""The command line: help, exit codes, errors on one line, plugin files anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table

from toolkit.cli.application import PluginOptions, make_app, split_plugin_options
from toolkit.cli.console import console, print_note, step, without_progress
from toolkit.cli.convert import with_capacities
from toolkit.cli.main import run
from toolkit.config.model import ModelConfig
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager

GREETER = """
import typer
from toolkit.errors import CheckFailed
from toolkit.hookspecs import hookimpl

@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    @app.command()
    def greet(name: str, doubtful: bool = False) -> None:
        if doubtful:
            raise CheckFailed(f"{name} is a stranger")
        print(f"hello {name}")
"""

COMMANDS = sorted(command.name or "" for command in make_app(PluginManager.load()).registered_commands)


@pytest.fixture
def greeter(tmp_path: Path) -> Path:
    """A plugin file that adds the command `greet`."""
    path = tmp_path / "greeter.py"
    path.write_text(GREETER)
    return path


def plain(text: str) -> str:
    """Text without colours, frames and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


def test_every_part_of_the_main_job_is_a_command() -> None:
    assert {"convert", "run", "replay", "demo"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole line that can be typed."""
    assert run([command, "--help"]) == 0
    assert f"Example: uniad-toolkit {command} " in plain(capsys.readouterr().out)


def test_without_arguments_it_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    run([])
    captured = capsys.readouterr()
    assert all(f" {command} " in plain(captured.out + captured.err) for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["convert"],
        ["replay", "bundle", "inputs.npz"],
        ["demo", "--speed", "9"],
        ["--plugin"],
        ["rewrite", "m.onnx", "-o", "n.onnx", "--check-memory", "inf"],
        ["rewrite", "m.onnx", "-o", "n.onnx", "--check-seconds", "1e308"],
        ["build", "m.onnx", "--target", "tensorrt-rtx", "--workspace", "99999999999999999999"],
    ],
)
def test_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line, which says where to look."""
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"error: .*; see `uniad-toolkit.* --help`\n", captured.err)


def test_errors_show_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """A file's name or content must not reach the terminal as a command."""
    assert run(["inspect", "\x1b[2J.pth"]) == 2
    assert r"checkpoint \x1b[2J.pth cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "nowhere.pth", "-o", "out"], "checkpoint nowhere.pth cannot be read"),
        (["convert", "nowhere.pth", "-o", "out", "--track-capacity", "901"], "--track-capacity 901 leaves no room"),
        (["replay", "nowhere", "inputs.npz", "-o", "outputs.npz"], "nowhere is not a bundle"),
        (["run", "nowhere", "frames", "-o", "results"], "nowhere is not a bundle"),
        (["warm", "nowhere"], "nowhere is not a bundle"),
        (["inspect", "n" * 300], "nnn cannot be used: File name too long; check the path"),
        (["run", "n" * 300, "frames", "-o", "results"], "nnn/bundle.json cannot be used: File name too long"),
        (["demo", "--plugin", "nowhere.py"], "plugin file nowhere.py: No such file or directory"),
    ],
)
def test_bad_input_is_one_line_without_traceback(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_failed_check(greeter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["greet", "you", "--doubtful", "--plugin", str(greeter)]) == 1
    assert capsys.readouterr().err == "error: you is a stranger\n"


def test_failure_of_the_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever command uses it; any other error of its kind is a defect, and shown as one."""
    path = tmp_path / "shouter.py"
    path.write_text(GREETER.replace('print(f"hello {name}")', "raise RuntimeError(name)"))
    assert run(["greet", "CUDA out of memory. Tried to allocate\n2 GiB", "--plugin", str(path)]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: the GPU cannot go on: RuntimeError: CUDA out of memory. Tried to allocate 2 GiB;")
    assert printed.endswith("free its memory, or run fewer --workers\n")
    with pytest.raises(RuntimeError, match="wheels"):
        run(["greet", "wheels", "--plugin", str(path)])


@pytest.mark.parametrize(
    "arrange",
    [
        lambda file: ["--plugin", file, "greet", "you"],
        lambda file: ["greet", "--plugin", file, "you"],
        lambda file: ["greet", "you", "--plugin", file],
        lambda file: ["greet", f"--plugin={file}", "you", f"--plugin={file}"],
    ],
    ids=["first", "between", "last", "twice, with equals signs"],
)
def test_plugin_file_may_stand_anywhere(
    arrange: Callable[[str], list[str]], greeter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is loaded before the command is looked up, for it may bring the command."""
    assert run(arrange(str(greeter))) == 0
    assert capsys.readouterr().out == "hello you\n"


def test_plugin_options_are_taken_out_of_the_arguments() -> None:
    options, rest = split_plugin_options(
        ["--plugin", "a.py", "run", "--plugin=b.py", "--strict-plugins", "-o", "out", "--disable-plugin", "wheels"]
    )
    assert options == PluginOptions((Path("a.py"), Path("b.py")), ("wheels",), strict=True)
    assert rest == ["run", "-o", "out"]


def test_how_much_is_printed_may_be_said_anywhere() -> None:
    assert split_plugin_options(["run", "bundle", "--quiet"]) == (PluginOptions(quiet=True), ["run", "bundle"])
    assert split_plugin_options(["--verbose", "run"]) == (PluginOptions(verbose=True), ["run"])
    with pytest.raises(InputError, match="--quiet and --verbose contradict each other; give one of them"):
        split_plugin_options(["--verbose", "run", "--quiet"])


def test_quiet_leaves_progress_out(capsys: pytest.CaptureFixture[str]) -> None:
    with without_progress(True), step("think"):
        print_note("done")
    assert capsys.readouterr().out == "note  done\n"
    with without_progress(False), step("think"):
        pass
    assert capsys.readouterr().out.endswith("s  think\n")


def test_verbose_tells_hook_calls_and_the_cause_of_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.toml").write_text("[bev")
    assert run(["config", str(tmp_path / "model.toml"), "--verbose"]) == 2
    error, cause = capsys.readouterr().err.splitlines()[-2:]
    assert error.startswith("error: config ")
    assert re.match(r"trace: caused by TOMLDecodeError: .*, at .*:\d+$", cause)


def test_commands_of_a_plugin_are_listed(greeter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--plugin", str(greeter), "--help"]) == 0
    assert "greet" in plain(capsys.readouterr().out).split()


@pytest.mark.parametrize(
    ("tracks", "agents", "message"),
    [
        (901, 128, "--track-capacity 901 leaves no room for survivors; it must exceed 901"),
        (1150, 0, "--agent-capacity 0 must lie between 1 and 300"),
        (1150, 301, "--agent-capacity 301 must lie between 1 and 300"),
    ],
)
def test_impossible_capacities(tracks: int, agents: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_capacities(ModelConfig(), tracks, agents)


def test_capacities_reach_the_dimensions() -> None:
    dimensions = with_capacities(ModelConfig(), 1000, 64).dimensions()
    assert (dimensions["tracks"], dimensions["agents"]) == (1000, 64)


def test_a_table_in_a_pipe_is_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell is cut or folded, unless COLUMNS asks for it."""
    monkeypatch.delenv("COLUMNS", raising=False)
    cells = [f"{number}" + "x" * 60 for number in range(4)]
    table = Table(*map(str, range(4)))
    table.add_row(*cells)
    console.print(table)
    printed = capsys.readouterr().out
    assert all(cell in printed for cell in cells)
    monkeypatch.setenv("COLUMNS", "80")
    console.print(table)
    assert max(map(len, capsys.readouterr().out.splitlines())) == 80
