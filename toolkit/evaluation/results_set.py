"""The results that are evaluated together: of one run, which may lie in several folders, one for each shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.errors import InputError
from toolkit.runtime.result_reader import read_result, result_files
from toolkit.runtime.results import FrameResult
from toolkit.runtime.run_record import RUN_RECORD, RunRecord
from toolkit.specs import Refinement
from toolkit.text import in_words


@dataclass(frozen=True)
class ResultsSet:
    """Results by their frames' tokens, each read when asked for; `run` says what they are of, without its frames.

    Those of `left_out` tokens were not written, because they hold values that are not finite. `refinements` change
    results when they are read; `run` names those too.
    """

    run: RunRecord
    paths: Mapping[str, Path]
    left_out: frozenset[str]
    refinements: Sequence[Refinement] = ()

    def read(self, token: str) -> FrameResult:
        """A frame's result. Raises InputError for a damaged file."""
        result = read_result(self.paths[token])
        for refinement in self.refinements:
            result = refinement.apply(result)
        return result


def open_results_set(folders: Sequence[Path], refinements: Sequence[Refinement] = ()) -> ResultsSet:
    """The results in folders that `run` wrote, to be changed by further refinements.

    Raises InputError for another folder, for folders of different bundles, sessions, precisions, decoders or
    refinements, for a frame in two of them, for results that are not of their folder's run, and for a refinement that
    has changed them already.
    """
    first: RunRecord | None = None
    paths: dict[str, Path] = {}
    left_out: set[str] = set()
    for number, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:number]]:
            raise InputError(f"{folder} is given twice; give each folder once")
        record = _record(folder)
        first = first or record
        _require_same_run(folder, record, folders[0], first)
        left_out |= set(map(frame_token, record.left_out))
        known = {frame.frame for frame in record.frames}
        for path in result_files(folder):
            if path.stem not in known:
                raise InputError(f"{path}: is in no line of {RUN_RECORD} beside it; give the folder as `run` wrote it")
            other = paths.setdefault(frame_token(path.stem), path)
            if other != path:
                raise InputError(f"frame {path.stem} is in {other.parent} and in {folder}; give each frame once")
    if first is None:
        raise InputError("there are no results to evaluate; give a folder that `uniad-toolkit run` wrote")
    for refinement in refinements:
        if refinement.option in first.refinements:
            raise InputError(f"{refinement.option} has changed these results when they were made; leave it out")
    options = (*first.refinements, *(refinement.option for refinement in refinements))
    return ResultsSet(replace(first, frames=(), refinements=options), paths, frozenset(left_out), refinements)


def frame_token(name: str) -> str:
    """What the data set calls a frame: its name after the number that begins it, if there is one."""
    return name.partition("_")[2] or name


def _record(folder: Path) -> RunRecord:
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give what `uniad-toolkit run` wrote, or a bundle")
    return RunRecord.read(folder)


def _require_same_run(folder: Path, record: RunRecord, first_folder: Path, first: RunRecord) -> None:
    for what in ("bundle", "session", "precision", "decoder", "refinements"):
        own, other = (in_words(getattr(one, what)) or "none" for one in (record, first))
        if own != other:
            raise InputError(
                f"{folder} holds results of the {what} {own:.40}, {first_folder} of {other:.40}; evaluate them apart"
            )
