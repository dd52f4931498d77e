"""What is wrong in files: counted by kind, with the first places, so that nothing is left out silently."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_EXAMPLES = 3


@dataclass
class _Kind:
    count: int = 0
    places: list[str] = field(default_factory=list)


class Problems:
    """Counts problems by kind and keeps the first three places of each.

    A kind says what and what became of it, in the plural: "lines that are not JSON, left out".
    """

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def add(self, kind: str, path: object, line: int, detail: str = "") -> None:
        """Counts a problem.

        Args:
            kind: see above.
            path: of the file.
            line: its number, from 1 on.
            detail: what stands there.
        """
        found = self._kinds.setdefault(kind, _Kind())
        found.count += 1
        if len(found.places) < _EXAMPLES:
            found.places.append(f"{path}:{line} ({detail})" if detail else f"{path}:{line}")

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        return {kind: found.count for kind, found in self._kinds.items()}

    def report(self) -> list[str]:
        """Returns a line a kind: count, kind and first places as file:line; none where nothing is wrong."""
        return [
            f"{found.count:,} {kind}: {', '.join(found.places)}{', ...' if found.count > len(found.places) else ''}"
            for kind, found in self._kinds.items()
        ]

    def state(self) -> dict[str, Any]:
        """Returns all of it, JSON-plain."""
        return {kind: [found.count, found.places] for kind, found in self._kinds.items()}

    def update(self, state: dict[str, Any]) -> None:
        """Adds what `state` returned elsewhere."""
        for kind, (count, places) in state.items():
            found = self._kinds.setdefault(kind, _Kind())
            found.count += count
            found.places = (found.places + places)[:_EXAMPLES]
