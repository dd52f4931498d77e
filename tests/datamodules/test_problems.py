"""Problems are counted, and the first ones are shown."""

from pathlib import Path

from datamodules.problems import Problems


def test_report() -> None:
    problems = Problems()
    assert problems.report() == []
    problems.add("mentions without an id, left out", Path("a.json"), 3)
    for line in range(1, 1236):
        problems.add("long lines, cut", "b.json", line, f"{line} characters")
    assert problems.report() == [
        "1 mentions without an id, left out: a.json:3",
        "1,235 long lines, cut: b.json:1 (1 characters), b.json:2 (2 characters), b.json:3 (3 characters), ...",
    ]
    assert problems.counts == {"mentions without an id, left out": 1, "long lines, cut": 1235}


def test_state_is_added() -> None:
    problems, other = Problems(), Problems()
    for line in (1, 2):
        problems.add("both", "a", line)
        other.add("both", "b", line)
    other.add("new", "b", 9, "x")
    problems.update(other.state())
    assert problems.report() == ["4 both: a:1, a:2, b:1, ...", "1 new: b:9 (x)"]
