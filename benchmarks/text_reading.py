"""Seconds and memory that TextDataModule takes to read a text, and tokens/s of its batches.

    python -m benchmarks.text_reading

Each text is read in a process of its own into an empty cache; then it is opened again, and one epoch of batches of
8,192 tokens is drawn. Needs the texts in ../shared/data/text; "ten times" reads the English one ten times over, to
show that the memory does not grow with the text. A minute or two; prints docs/results/text_reading.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.reporting import machine, markdown_table

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ROOT.parent / "shared" / "data" / "text"
ENGLISH, CHINESE = str(TEXTS / "en_mixed.txt.gz"), str(TEXTS / "zh_modern.txt.gz")
CASES: dict[str, dict[str, Any]] = {
    "English, 31 MB": {"source": ENGLISH},
    "the same ten times": {"source": [ENGLISH] * 10},
    "Chinese, 10.1 million characters": {"source": CHINESE, "segmenter": "chinese"},
    "docstrings": {"source": "docstrings"},
}


class Memory:
    """MiB of this process's own memory at most; mapped files, which the system can drop at any time, do not count."""

    def __init__(self) -> None:
        self.before = self.peak = self._now()
        threading.Thread(target=self._watch, daemon=True).start()

    @staticmethod
    def _now() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._now())
            time.sleep(0.02)


def measure(case: str, cache: str) -> dict[str, float]:
    """Reads a text and draws an epoch of it, in this process."""
    from datamodules import TextDataModule

    def opened() -> TextDataModule:
        module = TextDataModule(**CASES[case], cache_dir=cache)
        module.setup("fit")
        return module

    # The processor's time of one thread: what else the machine does hardly matters.
    memory, start = Memory(), time.process_time()
    words = opened()
    read = time.process_time()
    module = opened()
    again = time.process_time()
    tokens = sum(len(batch["tokens"]) for batch in module.train_dataloader())
    return {
        "words": words.num_tokens + words.num_unknown,
        "items": len(words.items),
        "read": read - start,
        "again": again - read,
        "rate": tokens / (time.process_time() - again),
        "before": memory.before,
        "peak": memory.peak,
    }


def measured(case: str) -> dict[str, float]:
    """The same in a process of its own, with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "benchmarks.text_reading", "--case", case, "--cache", cache]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def row(case: str, values: dict[str, float]) -> list[str]:
    """A row of the table."""
    return [
        case,
        f"{values['words'] / 1e6:.1f} M",
        f"{values['items']:,.0f}",
        f"{values['read']:.1f} s",
        f"{values['again']:.2f} s",
        f"{values['peak'] - values['before']:.0f} MiB",
        f"{values['peak']:.0f} MiB",
        f"{values['rate'] / 1e6:.0f} M",
    ]


HEADINGS = ["text", "words", "items", "first", "later", "memory", "whole process", "tokens/s"]


def main() -> None:
    """Measures all texts and writes the table, or one for the process above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, help="only this one, as JSON")
    parser.add_argument("--cache", help="its cache")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "text_reading.md")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case, arguments.cache)))
        return
    rows = [row(case, measured(case)) for case in track(CASES, "reading")]
    explanation = (
        "First: seconds of CPU time to read, segment, count and write the tokens. Later: to open them again. Memory: "
        "the peak above what Python with torch and Lightning takes; whole process: with it (mapped files, which the "
        "system can drop at any time, do not count). Tokens/s: drawing the batches of an epoch, in one thread."
    )
    text = f"{markdown_table(HEADINGS, rows)}\n\n{explanation}\n\nMeasured {datetime.date.today()} on {machine()}.\n"
    print(text)
    arguments.out.write_text(text)


if __name__ == "__main__":
    main()
