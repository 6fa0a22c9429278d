"""What a runner had to change in the recurrent state."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Repairs:
    """What had to be changed in the state after a frame, so that the next one can use it."""

    poisoned_tracks: int = 0
    """Tracks forgotten because their rows held values that are not finite."""
    poisoned_states: tuple[str, ...] = ()
    """Other state inputs with such values, now zero: the next frame starts a new scene."""
    ids_restarted: bool = False
    """Ids had come near the end of their range: the next frame starts a new scene, and ids start at 0 again."""

    @property
    def scene_reset(self) -> bool:
        """Whether the next frame starts a new scene, whatever its input says."""
        return bool(self.poisoned_states) or self.ids_restarted

    def __bool__(self) -> bool:
        return self != NO_REPAIRS

    def __str__(self) -> str:
        parts = []
        if self.poisoned_tracks:
            parts.append(f"tracks forgotten because not finite: {self.poisoned_tracks}")
        if self.poisoned_states:
            parts.append(f"scene reset because not finite: {', '.join(self.poisoned_states)}")
        if self.ids_restarted:
            parts.append("scene reset because track ids ran out: they restart at 0")
        return "; ".join(parts)


NO_REPAIRS = Repairs()
