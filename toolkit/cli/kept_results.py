"""What a bundle said in a long run outlives what fails after it: the judging, or the run itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from toolkit.errors import CheckFailed, InputError
from toolkit.runtime.run_record import RUN_RECORD, RunRecord
from toolkit.storage.claims import FolderOutput, claim_folder, writing
from toolkit.storage.outputs import new_folder

KIND = "results"
PARTIAL = "partial"


@contextmanager
def results_kept(results: Path, output: FolderOutput) -> Iterator[None]:
    """If the block fails, finished results in `output`'s temporary folder become OUTPUT-results, which the error names.

    The name gets a number if it is taken. Raises InputError and CheckFailed as the block does, and InputError for what
    the system says.
    """
    try:
        with writing(output.given, "output folder"):
            yield
    except (InputError, CheckFailed) as error:
        with suppress(InputError):
            kept = _keep(results.iterdir(), output.path)
            first, *rows = error.args
            told = f"{first}; what the bundle said is kept; evaluate {kept}, without running it again"
            error.args = (told, *rows)
        raise


def keep_finished(record: RunRecord, results: Path, output: FolderOutput) -> Path | None:
    """What a run that failed had finished, from `output`'s temporary folder `results`: it becomes OUTPUT-partial.

    The name gets a number if it is taken. Those are the files of the frames of `record`, and the record; what was begun
    of others stays behind. Gives the folder, or None if there is nothing to keep, or no place for it.
    """
    names = {frame.frame for frame in record.frames if not frame.left_out}
    if not names:
        return None
    with suppress(InputError, OSError):
        record.write(results)
        return _keep((f for f in results.iterdir() if f.name == RUN_RECORD or f.stem in names), output.path, PARTIAL)
    return None


def _keep(files: Iterable[Path], output: Path, ending: str = KIND) -> Path:
    """Give results a name of their own beside an output."""
    name = f"{output.name}-{ending}"
    names = (output.with_name(name if number == 1 else f"{name}-{number}") for number in count(1))
    kept = next(path for path in names if not path.exists())
    with new_folder(claim_folder(kept, KIND)) as folder:
        for file in list(files):
            file.rename(folder / file.name)
    return kept
