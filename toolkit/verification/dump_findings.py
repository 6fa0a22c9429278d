"""What is found about a dump besides how its outputs compare: origin, settings, and how inputs were prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from toolkit.reference_interface.dump import Dump, Origin
from toolkit.text import in_words, shown
from toolkit.verification.inputs import InputComparison
from toolkit.verification.settings import SettingsCheck


@dataclass(frozen=True)
class DumpFindings:
    """`facts` is what the dump says of its environment, `settings` and `notes` are those of a `SettingsCheck`.

    `inputs` are compared with prepared ones, if there are such.
    """

    file: str
    facts: Mapping[str, str]
    settings: tuple[str, ...]
    notes: tuple[str, ...]
    inputs: tuple[InputComparison, ...] = ()

    @classmethod
    def of_dump(cls, dump: Dump, check: SettingsCheck) -> DumpFindings:
        """Before inputs are compared."""
        return cls(dump.path.name, origin_facts(dump.origin), check.differing, check.notes)

    def worst_inputs(self) -> list[InputComparison]:
        """The worst frame of every input."""
        worst: dict[str, InputComparison] = {}
        for found in self.inputs:
            name = found.comparison.tensor
            if name not in worst or found.comparison.severity > worst[name].comparison.severity:
                worst[name] = found
        return list(worst.values())

    def failures(self) -> tuple[str, ...]:
        """A line for each setting that differs, and one for the first input that does."""
        first = next((found for found in self.inputs if not found.comparison.passed), None)
        return self.settings if first is None else (*self.settings, difference(first))


def difference(found: InputComparison) -> str:
    """An input that is prepared otherwise, in one line."""
    c = found.comparison
    reason = f" {found.reason}" if found.reason else ""
    return (
        f"input {c.tensor!r} differs from the dump's first at frame {c.frame}{reason}: error {c.error:.3g}, tolerance "
        f"{c.bound:g}"
    )


def origin_facts(origin: Origin) -> dict[str, str]:
    """What an origin says, in words."""
    said = {item.name: getattr(origin, item.name) for item in fields(Origin) if item.name != "versions"}
    facts = {name: version for name, version in origin.versions.items() if version is not None}
    return {shown(name): shown(in_words(value)) for name, value in (facts | said).items() if value is not None}
