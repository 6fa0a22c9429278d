"""The files of weights that the authors of UniAD publish, known by their names."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass

from toolkit.text import mebibytes


@dataclass(frozen=True)
class PublishedFile:
    """One of them. `release` is that of the version meant; `entries` and `weight_bytes` are those of the state dict."""

    name: str
    kind: str
    release: str
    config: str
    entries: int
    weight_bytes: int

    @property
    def remedy(self) -> str:
        """Where to get it."""
        return f"download it again, from release {self.release} of UniAD"

    def size_fault(self, size: int) -> str | None:
        """What is wrong with a file of this name and of `size` bytes, if anything."""
        if size >= self.weight_bytes:
            return None
        return f"{self.name} has {mebibytes(size)} MiB, and its weights alone take {mebibytes(self.weight_bytes)}"

    def note(self, entries: Sized) -> str:
        """What is to be known of a checkpoint with this name and these entries."""
        if len(entries) != self.entries:
            return (
                f"{self.name} of release {self.release} of UniAD has {self.entries} entries, this one {len(entries)}: "
                f"it is another; {self.remedy}"
            )
        return f"published in release {self.release} of UniAD; convert with --config {self.config}"


PUBLISHED = (
    PublishedFile(
        "uniad_base_track_map.pth",
        "UniAD-base, stage 1",
        "v1.0",
        "configs/uniad_base_stage1.toml",
        entries=1742,
        weight_bytes=400_256_604,
    ),
    PublishedFile(
        "uniad_base_e2e.pth",
        "UniAD-base, stage 2",
        "v1.0.1",
        "configs/uniad_base_stage2.toml",
        entries=2457,
        weight_bytes=527_724_200,
    ),
)


def published_file(name: str) -> PublishedFile | None:
    """The published file of this name."""
    return next((file for file in PUBLISHED if file.name == name), None)
