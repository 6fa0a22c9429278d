"""What a bundle said in a long run outlives the judging of it, if that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from toolkit.errors import CheckFailed, InputError
from toolkit.storage.claims import FolderOutput, claim_folder, writing
from toolkit.storage.outputs import new_folder

KIND = "results"


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
            kept = _keep(results, output.path)
            first, *rows = error.args
            told = f"{first}; what the bundle said is kept; evaluate {kept}, without running it again"
            error.args = (told, *rows)
        raise


def _keep(results: Path, output: Path) -> Path:
    """Give results a name of their own beside an output."""
    name = f"{output.name}-{KIND}"
    names = (output.with_name(name if number == 1 else f"{name}-{number}") for number in count(1))
    kept = next(path for path in names if not path.exists())
    with new_folder(claim_folder(kept, KIND)) as folder:
        for file in results.iterdir():
            file.rename(folder / file.name)
    return kept
