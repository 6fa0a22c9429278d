"""What a report says, collected and put into words; the template only arranges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Facts = Mapping[str, str]
"""What is said about what, in the order of the report."""


@dataclass(frozen=True)
class Table:
    """Texts in rows. `numeric` columns are set flush right; rows with a number in `marked` are set off as failures."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Conversion:
    """What was made of what. `facts` has origins, `meta` what the training recorded, `tools` versions."""

    kind: str
    facts: Facts
    meta: Facts
    tools: Facts
    capacities: Facts
    conventions: Facts
    files: Table
    submodules: Table
    parameters: int
    nodes: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """Something that holds or not, in one sentence."""

    subject: str
    passed: bool
    finding: str


@dataclass(frozen=True)
class Verification:
    """One session compared with the reference. `failure` is None if it agrees."""

    title: str
    failure: str | None
    tensors: Table
    decisions: Table


@dataclass(frozen=True)
class TrainingEnvironment:
    """The dump that the bundle was verified against: what it says of itself, and what was found besides its outputs."""

    file: str
    facts: Facts
    differing: tuple[str, ...]
    notes: tuple[str, ...]
    inputs: Table


@dataclass(frozen=True)
class Agreement:
    """The proof at conversion in `facts` and one sentence, and verifications since, against a dump perhaps."""

    worst: str
    facts: Facts
    checks: tuple[Check, ...]
    verifications: tuple[Verification, ...]
    environment: TrainingEnvironment | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PagePicture:
    """A picture of a frame, or a plot, by its name; as a data URI, with its size in pixels."""

    frame: str
    caption: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Run:
    """Frames that went through the bundle. `plot` is an inline SVG element that was made here."""

    facts: Facts
    median_seconds: float | None
    latency: Table
    plot: str
    pictures: tuple[PagePicture, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class JudgedTask:
    """What a metric found, and `notes` about what it could not judge."""

    name: str
    figures: Table
    plots: tuple[PagePicture, ...]
    worst: tuple[PagePicture, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Quantization:
    """How the bundle was quantized: what was tried, what was kept, and what gates say in the end."""

    facts: Facts
    effects: Table
    kept: Table
    gates: Table
    plot: PagePicture


@dataclass(frozen=True)
class Driving:
    """How well the bundle drives, by task."""

    facts: Facts
    tasks: tuple[JudgedTask, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PageContents:
    """Everything. `run` is None without results of a run, `driving` without an evaluation, `quantization` in FP32.

    The verdict is what all `checks` say together.
    """

    title: str
    bundle: str
    created: str
    toolkit: str
    checks: tuple[Check, ...]
    conversion: Conversion
    passes: tuple[Table, ...]
    agreement: Agreement
    engines: Table
    engine_warnings: tuple[str, ...]
    run: Run | None
    driving: Driving | None
    quantization: Quantization | None = None

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Whatever the reader should know before trusting the rest."""
        run = self.run.warnings if self.run else ()
        driving = self.driving.warnings if self.driving else ()
        return (*self.conversion.warnings, *self.agreement.warnings, *self.engine_warnings, *run, *driving)
