"""The report of benchmarks.autoencoder, from its CSVs: the entropy term's share, images/s and FID beside pythae's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.autoencoder_quality import EXPLAINED
from benchmarks.entropic_autoencoder_report import quality_table, tuning_table
from benchmarks.reporting import Row, markdown_table, when_and_where

BATCH_SIZE = 256
LATENT_DIM = 16
LEARNING_RATE = 1e-3
WITH_TERM, WITHOUT_TERM, TERM = "entropy", "none, code_norm", "the term by itself"
PYTHAE, PYTHAE_FUSED = "pythae VAE", "pythae VAE, fused Adam"
OUR_VAE, OUR_EAE = "our VAE", "our EAE"
MOST_SHARE = 5.0  # percent
LEAST_RATIO = 1.3

SPEED_NOTES = f"""\
- Both train from images in memory with the same networks, batch {BATCH_SIZE}, Adam({LEARNING_RATE:g}) and threads.
  pythae by its TrainingPipeline and BaseTrainerConfig as its documentation shows, without an evaluation set and
  without checkpoints; ours by a Trainer with Lightning's defaults and ImageDataModule. So pythae shows a progress bar,
  copies the model once an epoch and draws each batch image by image; ours shows a progress bar, logs to a CSV, writes
  a checkpoint each epoch and slices batches.
- The clock runs from the end of the first epoch to that of the last: all of the loop, and no start-up. Each round
  visits all contestants in turn, a first round warms up. Ratios are taken within a round; medians count.
- pythae has no EAE: our EAE is compared with pythae's VAE, too.
- Tuned is the same arithmetic faster: fused Adam (`optimizer_args: {{fused: true}}`, pythae's `optimizer_params`)
  and, for convolutions, `channels_last: true`, which pythae has not. The last column compares with its fused Adam.
- bf16-mixed (`--trainer.precision bf16-mixed`) multiplies matrices in bfloat16: another precision than pythae's, whose
  `amp` is for CUDA alone. It pays on processors that have instructions for it (avx512_bf16, amx)."""
QUALITY_NOTES = """\
pythae's models have the same dense networks, images, batch, Adam and whole epochs, with an update more in each: its
loader keeps the last, smaller batch. The number after a name is its weight: pythae's VAE weighs the KL divergence
against half the squared error, so its 1 is our 2. 1 (VAE), 0.03 (WAE-MMD) and 0.0001 (RAE-L2) are pythae's defaults."""
OURS_MISSING = "Ours are not measured yet: `python -m benchmarks.entropic_autoencoder --jobs 2`."


@dataclass(frozen=True)
class Measured:
    """All rows that there are.

    Attributes:
        entropy: with "network", "contestant", "round" and "seconds".
        speed: with "network", "contestant", "round" and "images_per_second".
        quality: of pythae's, as benchmarks.entropic_autoencoder has them.
        tuning: of pythae's, likewise.
        ours: of benchmarks.entropic_autoencoder.
        weights: that were tried for each of pythae's.
    """

    entropy: Sequence[Row] = ()
    speed: Sequence[Row] = ()
    quality: Sequence[Row] = ()
    tuning: Sequence[Row] = ()
    ours: Sequence[Row] = ()
    weights: Mapping[str, Sequence[float]] = field(default_factory=dict)


def write_report(out: Path, measured: Measured, *, judge: bool) -> str:
    """Write autoencoder.md into ``out``; a part without rows is left out.

    Args:
        out: a folder, made if need be.
        measured: the rows.
        judge: whether to say if targets are reached.

    Returns:
        The Markdown text.
    """
    parts = ["# Autoencoders beside pythae: measured", "Written by `python -m benchmarks.autoencoder`; edits get lost."]
    if not judge:
        parts.append("Made with --quick: these numbers mean nothing.")
    parts += entropy_section(measured.entropy, judge) if measured.entropy else []
    parts += speed_section(measured.speed, judge) if measured.speed else []
    parts += quality_section(measured) if measured.quality else []
    text = "\n\n".join(parts) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / "autoencoder.md").write_text(text)
    return text


def by_round(rows: Sequence[Row], column: str, **where: str) -> list[float]:
    """A column of the rows that fit, in the order of rounds."""
    fitting = [row for row in rows if where.items() <= row.items()]
    return [float(row[column]) for row in sorted(fitting, key=lambda row: int(row["round"]))]


# ---- The entropy term ----


def entropy_share(rows: Sequence[Row], network: str) -> float:
    """What the entropy adds to a step, in percent of the step with it: the median over rounds."""
    with_term = by_round(rows, "seconds", network=network, contestant=WITH_TERM)
    without = by_round(rows, "seconds", network=network, contestant=WITHOUT_TERM)
    return 100 * median(1 - less / more for more, less in zip(with_term, without, strict=True))


def entropy_section(rows: Sequence[Row], judge: bool) -> list[str]:
    """Paragraphs: a table with a line for each network, verdicts, and what was done."""
    headings = ["networks", "step, ms", "without entropy, ms", "share, %", "the term alone, ms", "of the step, %"]
    lines, verdicts = [], []
    for network in dict.fromkeys(row["network"] for row in rows):
        names = WITH_TERM, WITHOUT_TERM, TERM
        step, without, term = (median(by_round(rows, "seconds", network=network, contestant=n)) for n in names)
        share = entropy_share(rows, network)
        numbers = f"{1e3 * step:.2f}", f"{1e3 * without:.2f}", f"{share:.2f}", f"{1e3 * term:.2f}"
        lines.append([network, *numbers, f"{100 * term / step:.2f}"])
        word = "reached" if share <= MOST_SHARE else "not reached"
        verdicts.append(f"- {network}: target at most {MOST_SHARE:g} % of the step: {share:.2f} %, {word}.")
    what = (
        f"A training step of EntropicAutoencoder, batch {BATCH_SIZE}, d = {LATENT_DIM}, with `regularizer: entropy` and"
        " with `none`, both with `code_norm: true`, under a bare Trainer on batches that are ready. The share is taken"
        f" within a round; medians of {max(int(row['round']) for row in rows)} round(s) after one that warms up. The"
        f" term alone is its forward and backward pass. Measured {when_and_where(rows)}."
    )
    table = markdown_table(headings, lines)
    return ["## What the entropy term costs", table, *(["\n".join(verdicts)] if judge else []), what]


# ---- Speed ----


def times_pythae(rows: Sequence[Row], network: str, contestant: str, than: str = PYTHAE) -> float:
    """How many times the images/s of pythae's VAE: the median over rounds."""
    own = by_round(rows, "images_per_second", network=network, contestant=contestant)
    theirs = by_round(rows, "images_per_second", network=network, contestant=than)
    return median(a / b for a, b in zip(own, theirs, strict=True))


def speed_section(rows: Sequence[Row], judge: bool) -> list[str]:
    """Paragraphs: for each network a table and verdicts; then what was done."""
    parts = ["## Training: images/s"]
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network]
        names = list(dict.fromkeys(row["contestant"] for row in own))
        parts += [f"### {network.capitalize()} networks", speed_table(own, network, names)]
        if judge:
            parts.append("\n".join(speed_verdict(own, network, name) for name in names if name.startswith("our")))
    count, epochs = (rows[0][name] for name in ("images", "epochs"))
    rounds = max(int(row["round"]) for row in rows)
    what = (
        f"{int(count):,} images of {rows[0]['data']}, {epochs} timed epoch(s), {rounds} round(s)."
        f" Measured {when_and_where(rows)}."
    )
    return [*parts, SPEED_NOTES, what]


def speed_table(rows: Sequence[Row], network: str, names: Sequence[str]) -> str:
    """A line for each contestant: medians over rounds."""
    lines = []
    for name in names:
        speed = median(by_round(rows, "images_per_second", network=network, contestant=name))
        ratios = (times_pythae(rows, network, name, than) for than in (PYTHAE, PYTHAE_FUSED))
        milliseconds = f"{1e3 * BATCH_SIZE / speed:.1f}"
        lines.append([name, f"{speed:,.0f}", milliseconds, *(f"{ratio:.2f}" for ratio in ratios)])
    return markdown_table(["contestant", "images/s", "ms a step", f"times {PYTHAE}", f"times {PYTHAE_FUSED}"], lines)


def speed_verdict(rows: Sequence[Row], network: str, name: str) -> str:
    """Whether one of ours is as much faster as it should be."""
    ratio = times_pythae(rows, network, name)
    word = "reached" if ratio >= LEAST_RATIO else "not reached"
    return f"- {name}, target at least {LEAST_RATIO:g} times {PYTHAE}: {ratio:.2f}, {word}."


# ---- Quality ----


def quality_section(measured: Measured) -> list[str]:
    """Paragraphs: ours and pythae's in one table, and how pythae's weights were chosen."""
    rows = [*measured.ours, *measured.quality]
    seeds = ", ".join(sorted({row["seed"] for row in measured.quality}))
    parts = ["## Quality on MNIST", quality_table(rows), *([] if measured.ours else [OURS_MISSING])]
    parts += [f"Mean ± standard deviation over seeds. {EXPLAINED}", QUALITY_NOTES]
    parts.append(f"pythae's: seeds {seeds}. Measured {when_and_where(measured.quality)}.")
    if measured.tuning:
        chosen = (
            "FID of N(0, I) samples to the training images after half as many steps, with one seed that is not used"
            f" above; the lowest of a row was taken, as for ours. Measured {when_and_where(measured.tuning)}."
        )
        parts += ["### How pythae's weights were chosen", tuning_table(measured.tuning, measured.weights), chosen]
    return parts
