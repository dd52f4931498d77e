"""The report of benchmarks.single_loss_gan: FID at each step, and whether the methods of a setting agree at the end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gan_quality_report import fid_section
from benchmarks.reporting import Row, markdown_table, mean_and_spread

WITHIN = 2.0  # standard errors of a difference
WHAT_DIFFERS = (
    "Each step is one update of D and one of G. Alternating: first D's, then G's with fresh noise (`RelativisticGAN`)."
    " Article and one pass: both at once, from one loss (`SingleLossGAN`, mode article or one_pass). SN: spectral norm."
)
COMPUTED = (
    "For each two methods: the difference of their mean FIDs over seeds at the last step (positive: the first is"
    " worse), and its standard error, the root of the sum of both variances, each divided by its number of seeds"
    f" (Welch). Within {WITHIN:g} standard errors the methods agree: these seeds don't tell them apart. The standard"
    " error says how small a difference these seeds could show."
)


def write_report(out: Path, settings_in_words: str, rows: Sequence[Row], names: dict[tuple[str, str], str]) -> str:
    """Write single_loss_gan.md and single_loss_gan_fid.png into ``out``.

    Args:
        out: an existing folder.
        settings_in_words: what all methods share.
        rows: with "method", "seed", "step" and "fid".
        names: of each (setting, form), its "method".

    Returns:
        The Markdown text.
    """
    parts = ["# SingleLossGAN: measured", "Written by `python -m benchmarks.single_loss_gan`; edits get lost."]
    settings_in_words = f"{WHAT_DIFFERS} {settings_in_words}"
    parts += fid_section(out / "single_loss_gan_fid.png", rows, list(names.values()), settings_in_words)
    parts += ["## Same quality?", *verdicts(rows, names), COMPUTED]
    text = "\n\n".join(parts) + "\n"
    (out / "single_loss_gan.md").write_text(text)
    return text


def verdicts(rows: Sequence[Row], names: dict[tuple[str, str], str]) -> list[str]:
    """A sentence for each setting, and a table of all comparisons of two of its methods at the last step."""
    last = max(int(row["step"]) for row in rows)
    sentences, lines = [], []
    for setting in dict.fromkeys(setting for setting, _ in names):
        forms = {form: fids_at(rows, name, last) for (of, form), name in names.items() if of == setting}
        compared = {(a, b): compare(forms[a], forms[b]) for a, b in itertools.combinations(forms, 2)}
        lines += [[setting, f"{a} - {b}", *comparison] for (a, b), comparison in compared.items()]
        outcomes = [comparison[-1] for comparison in compared.values()]
        sentences.append(f"- {setting}: {outcomes.count('agree')} of {len(outcomes)} comparisons agree.")
    headings = ["setting", "compared", f"difference of FID at step {last:,}", "standard error", "verdict"]
    return ["\n".join(sentences), markdown_table(headings, lines)]


def fids_at(rows: Sequence[Row], method: str, step: int) -> list[float]:
    """The FIDs of a method's seeds at a step."""
    return [float(row["fid"]) for row in rows if row["method"] == method and int(row["step"]) == step]


def compare(first: Sequence[float], second: Sequence[float]) -> tuple[str, str, str]:
    """Difference of means, its standard error (both in words) and the verdict, of the values of two methods."""
    if min(len(first), len(second)) < 2:
        return "-", "-", "needs two seeds"
    difference, error = difference_and_error(first, second)
    if abs(difference) <= WITHIN * error:
        verdict = "agree"
    else:
        verdict = f"the {'first' if difference < 0 else 'second'} is better"
    return f"{difference:+.1f}", f"{error:.1f}", verdict


def difference_and_error(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Difference of two means and its standard error (Welch), from at least two values each."""
    (mean_1, spread_1), (mean_2, spread_2) = mean_and_spread(first), mean_and_spread(second)
    return mean_1 - mean_2, math.sqrt(spread_1**2 / len(first) + spread_2**2 / len(second))
