"""Contestants take turns."""

from benchmarks.rounds import in_rounds


def test_rounds_visit_all_in_turn_and_the_first_does_not_count() -> None:
    visited: list[str] = []
    contestants = {name: lambda name=name: visited.append(name) or float(len(visited)) for name in ("a", "b")}
    advanced: list[None] = []
    assert in_rounds(contestants, 2, lambda: advanced.append(None)) == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert visited == ["a", "b"] * 3
    assert len(advanced) == 6
