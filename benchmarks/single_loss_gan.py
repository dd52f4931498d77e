"""Article 5's single loss against alternating updates: the quality of GANs on MNIST digits at equal updates, 3 seeds.

    python -m benchmarks.single_loss_gan

Regenerates docs/results/single_loss_gan.md with a table of FID and a verdict on each two methods,
single_loss_gan_fid.png (FID against step), and the numbers behind them, single_loss_gan_fid.csv. A run that is
finished is in the CSV and is not repeated: an interrupted benchmark goes on where it was, and to measure anew, delete
the CSV. `--jobs 4` does four runs side by side. `--quick` shows in less than a minute that everything works; its
numbers mean nothing.

All methods share networks, learning rates, batches and seeds. Only what SETTINGS and FORMS list differs.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from benchmarks.gan_quality import STEPS, digits_task, train_digits
from benchmarks.reporting import machine
from benchmarks.runs import Table, be_quiet, command_line, measure, shrink_if_quick
from benchmarks.single_loss_gan_report import write_report
from lit_modules import RelativisticGAN, SingleLossGAN
from lit_modules.parts.gan import GANModule

SETTINGS: dict[str, dict[str, Any]] = {
    "SGAN + SN": {"loss": "sgan", "spectral_norm": True},
    "RSGAN + SN": {"loss": "rsgan", "spectral_norm": True},
}
FORMS: dict[str, Callable[..., GANModule]] = {
    "alternating": RelativisticGAN,
    "article": partial(SingleLossGAN, mode="article"),
    "one pass": partial(SingleLossGAN, mode="one_pass"),
}
NAMES = {(setting, form): f"{setting}, {form}" for setting in SETTINGS for form in FORMS}
METHODS = {name: partial(FORMS[form], **SETTINGS[setting]) for (setting, form), name in NAMES.items()}


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing, then write and print the report."""
    args = command_line(__doc__, STEPS).parse_args(arguments)
    shrink_if_quick(args)
    be_quiet()
    console = Console()
    task = digits_task(args.images, args.steps, METHODS, quick=args.quick)
    table = Table("digits", task, train_digits, args.out / "single_loss_gan_fid.csv")
    console.print(f"{machine()}, {datetime.date.today()}", highlight=False)
    measure([table], args.seeds, console, args.jobs)
    console.print(Markdown(write_report(args.out, task.in_words(), table.rows(args.seeds), NAMES)))


if __name__ == "__main__":
    main()
