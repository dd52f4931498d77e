"""How long the command line takes to answer, against the import of Lightning that every run needs.

    python -m benchmarks.start_up

To reach: `run.py --help` and a misspelt command at most 0.3 times `python -c "import lightning.pytorch"`,
`run.py fit --help` at most 1.3 times.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.reporting import machine

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ["-c", "import lightning.pytorch"]
CASES = {
    "run.py --help": (["run.py", "--help"], 0.3),
    "run.py fti (misspelt)": (["run.py", "fti"], 0.3),
    "run.py fit --help": (["run.py", "fit", "--help"], 1.3),
}
ROUNDS = 5


def seconds(arguments: list[str]) -> float:
    """Wall time of one Python process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> None:
    """Times each command next to the import, in turn, and prints the medians of the ratios."""
    seconds(REFERENCE)  # fills the file cache
    rounds = []
    for _ in track(range(ROUNDS), "timing"):
        rounds.append((seconds(REFERENCE), {name: seconds(arguments) for name, (arguments, _) in CASES.items()}))
    table = Table("command", "seconds", "ratio", "to reach")
    table.add_row("import lightning.pytorch", f"{median(reference for reference, _ in rounds):.2f}", "1", "")
    for name, (_, goal) in CASES.items():
        ratio = median(times[name] / reference for reference, times in rounds)
        table.add_row(name, f"{median(times[name] for _, times in rounds):.2f}", f"{ratio:.2f}", f"{goal}")
    Console().print(table, f"{machine()}, {datetime.date.today()}")


if __name__ == "__main__":
    main()
