"""The report of benchmarks.gan_step: a table for each size and loss, Lightning's overhead, targets, single times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.reporting import append_rows, markdown_table

BATCH_SIZE = 64
TUTORIAL = "tutorial"
ARTICLE = "SingleLossGAN, article"
ONE_PASS = "SingleLossGAN, one_pass"
BARE_ONE_PASS = "one pass, bare loop"
HEADINGS = ["contestant", "s a step", "images/s", "times the tutorial", "peak memory, MiB", "page faults a step"]
# By contestant, (seconds, page faults) a step in each round; rounds in the same order for all.
Costs = dict[str, list[tuple[float, float]]]
TARGET_SIZE = 64
# How many times the tutorial's loop. "No slower" allows for what two digits round away.
TARGETS = {"sgan": {ONE_PASS: 1.25, ARTICLE: 0.995}, "rsgan": {ONE_PASS: 1.5, ARTICLE: 0.995}}
MOST_OVERHEAD = 5.0  # percent


@dataclass(frozen=True)
class Result:
    """What was measured for one size of images and one loss.

    Attributes:
        size: side of the images in pixels.
        channels: of the images.
        loss: name of the loss.
        costs: of each contestant in each round.
        memory: by contestant, peak memory in MiB; None where it can't be measured.
    """

    size: int
    channels: int
    loss: str
    costs: Costs
    memory: dict[str, float | None]

    def seconds(self, contestant: str) -> list[float]:
        """Seconds a step in each round."""
        return [seconds for seconds, _ in self.costs[contestant]]

    def page_faults(self, contestant: str) -> float:
        """Page faults a step, the median over rounds."""
        return median(faults for _, faults in self.costs[contestant])

    def times_the_tutorial(self, contestant: str) -> float:
        """The median over rounds of how many times faster than the tutorial's loop."""
        return _median_ratio(self.seconds(TUTORIAL), self.seconds(contestant))

    def overhead(self) -> float:
        """What Lightning adds to a step with one pass, in percent: the median over rounds."""
        return 100 * (_median_ratio(self.seconds(ONE_PASS), self.seconds(BARE_ONE_PASS)) - 1)

    def title(self) -> str:
        """Size and loss in words."""
        return f"{self.size}x{self.size}, {self.channels} channel{'s' if self.channels > 1 else ''}, {self.loss}"


def write_report(out: Path, name: str, results: Sequence[Result], origin: Sequence[str], *, judge: bool) -> str:
    """Write ``name``.md and ``name``.csv into ``out``, over those of an earlier run.

    Args:
        out: a folder, made if need be.
        name: of both files.
        results: one for each size and loss.
        origin: paragraphs on settings, machine and date.
        judge: whether to say if targets are reached.

    Returns:
        The Markdown text.
    """
    written_by = "Written by `python -m benchmarks.gan_step`; edits get lost."
    parts = ["# One training step of a GAN: measured", written_by, *origin]
    for result in results:
        lines = [overhead_line(result), *(verdicts(result) if judge else [])]
        parts += [f"## {result.title()}", table(result), "\n".join(f"- {line}" for line in lines)]
    text = "\n\n".join(parts) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text)
    (out / f"{name}.csv").unlink(missing_ok=True)
    append_rows(out / f"{name}.csv", [row for result in results for row in single_times(result)])
    return text


def table(result: Result) -> str:
    """Medians over rounds of each contestant, and its peak memory."""
    lines = []
    for contestant in result.costs:
        memory, seconds = result.memory[contestant], result.seconds(contestant)
        lines.append(
            [
                contestant,
                f"{median(seconds):.4f}",
                f"{BATCH_SIZE / median(seconds):,.1f}",
                f"{result.times_the_tutorial(contestant):.2f}",
                "-" if memory is None else f"{memory:,.0f}",
                f"{result.page_faults(contestant):,.0f}",
            ]
        )
    return markdown_table(HEADINGS, lines)


def overhead_line(result: Result) -> str:
    """Lightning's overhead in words."""
    return f"Lightning's overhead ({ONE_PASS}, against {BARE_ONE_PASS}): {result.overhead():.2f} %."


def verdicts(result: Result) -> list[str]:
    """For each target whether it is reached; none for other sizes than the targets' own."""
    if result.size != TARGET_SIZE:
        return []
    lines = []
    for contestant, least in TARGETS[result.loss].items():
        ratio = result.times_the_tutorial(contestant)
        lines.append(
            f"{contestant}, target at least {least:g} times the tutorial: {ratio:.3f}, {_word(ratio >= least)}."
        )
    overhead = result.overhead()
    within = _word(overhead <= MOST_OVERHEAD)
    return [*lines, f"Lightning's overhead, target at most {MOST_OVERHEAD:g} %: {overhead:.2f} %, {within}."]


def single_times(result: Result) -> list[dict[str, object]]:
    """A row for each contestant and round."""
    setting = {"size": result.size, "channels": result.channels, "loss": result.loss}
    return [
        setting
        | {"contestant": contestant, "round": number, "seconds_per_step": round(seconds, 6)}
        | {"page_faults_per_step": round(faults)}
        for contestant, costs in result.costs.items()
        for number, (seconds, faults) in enumerate(costs, 1)
    ]


def _median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    return median(a / b for a, b in zip(over, under, strict=True))


def _word(reached: bool) -> str:
    return "reached" if reached else "not reached"
