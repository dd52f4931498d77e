"""What docs/plugins.md says: the files of a package and the commands, with what they print."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "plugins.md"
FILE = re.compile(r"^\*\*`([^`]+)`\*\*\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class Command:
    """A line that a reader types, and the lines that the page shows as printed; `...` stands for anything."""

    line: str
    shown: list[str]


def files() -> dict[str, str]:
    """The page's files by their paths."""
    found = FILE.findall(PAGE.read_text())
    contents = dict(found)
    assert len(contents) == len(found), "a path comes twice"
    return contents


def commands() -> list[Command]:
    """The page's commands in their order; what comes before the first one in a block is an error."""
    found = []
    for block in CONSOLE.findall(PAGE.read_text()):
        before, *parts = re.split(r"^\$ ", block, flags=re.MULTILINE)
        assert not before
        for part in parts:
            line, *shown = part.replace("\\\n", " ").splitlines()
            found.append(Command(line, [text.rstrip() for text in shown if text.strip()]))
    return found


def write_files(folder: Path) -> None:
    """The package, in `folder`."""
    for path, content in files().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def missing(command: Command, printed: str) -> list[str]:
    """The lines that the page shows and the command did not print, or not in this order.

    Numbers with decimals may differ by a fifth: processors differ in how they round.
    """
    lines, lacking = printed.splitlines(), []
    for shown in command.shown:
        place = next((number for number, line in enumerate(lines) if _is_shown(shown, line)), None)
        if place is None:
            lacking.append(shown)
        else:
            lines = lines[place + 1 :]
    return lacking


def _is_shown(shown: str, line: str) -> bool:
    pattern = r"(\d+\.\d+)".join(re.escape(part).replace(r"\.\.\.", ".*") for part in NUMBER.split(shown))
    match = re.fullmatch(re.sub(r"(\\ )+", r"\\s+", pattern), line.strip())
    if match is None:
        return False
    pairs = zip(NUMBER.findall(shown), match.groups(), strict=True)
    return all(abs(float(a) - float(b)) <= 0.2 * abs(float(a)) for a, b in pairs)
