"""Article 8: how fast pairs are written and networks trained, and how good the pairs are.

    python -m benchmarks.question_answer_generation

Parts, which `--parts` does one by one; the report is made of all that was ever measured:

- speed: pairs/s of (a) computing all of the sequence anew for each token, one passage at a time, as the article's code
  does, (b) ours, batched and cached, (c) transformers' `generate` of an encoder-decoder of the same halves; and
  tokens/s of training against a bare loop over the same network. Each round visits all contestants in turn, and a first
  round warms up. Wants a machine that does nothing else.
- quality: a small pretrained network and one from scratch, each with the answer first and with the question first, on
  Chinese questions that are split by document. Training is on all sources together, the epoch is chosen on a
  validation part, and each source has a test part. Both kinds of answers are tested: free ones and spans of the
  passage. All networks have the pretrained one's vocabulary, which lacks traditional characters: many of drcd_dev's
  tokens are unknown.

`--methods` and `--seeds` choose single runs of quality, `--device gpu` does all on an accelerator, and `--epochs` is
how many there are at most: about an hour on two cores with `--epochs 2 --seeds 0`. A run that is finished is in its CSV
and is not repeated; methods whose network is missing are left out, and named.

Writes docs/results/question_answer_generation.md with question_answer_generation{,_speed,_examples}.csv. `--quick`
shows in about a minute on the embedded example that everything works, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.question_answer_generation_report import NAME, write_report
from benchmarks.question_answer_generation_speed import SIZES, Speed, measure_speed, turns
from benchmarks.question_answer_generation_tasks import (
    METHODS,
    QuestionTable,
    question_task,
    source_name,
    split_files,
    train,
)
from benchmarks.reporting import machine
from benchmarks.runs import be_quiet, measure
from datamodules.passage_parts import EMBEDDED

PARTS = ("speed", "quality")
CACHE = Path("~/.cache/litspaces/benchmarks").expanduser()
SOURCES = ["../shared/data/qa/drcd_dev.jsonl.gz", "../shared/data/qa/cmrc2018.jsonl.gz"]
PRETRAINED = "../shared/models/roformer-sim-small"
# Passages of the test part that are written about.
TESTED = 200
# Tokens of a passage: half the article's, for a training in the time that two cores have.
MAX_PASSAGE = 128


def speed_of(args: argparse.Namespace) -> Speed:
    """How much is timed."""
    device = "cuda" if args.device == "gpu" else "cpu"
    if not args.quick:
        return Speed(args.files["train"], device, SIZES)
    small = {**SIZES, "hidden": 32, "layers": 2, "heads": 2}
    how_much = {"lengths": (32,), "passages": 4, "alone": 1, "rounds": 1, "steps": 2, "batch_size": 4}
    return Speed(args.files["train"], device, small, vocabulary=300, **how_much)


def timed(args: argparse.Namespace, console: Console) -> None:
    """Measure the part speed, with a bar."""
    speed = speed_of(args)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("speed", total=turns(speed))
        measure_speed(speed, args.out / f"{NAME}_speed.csv", lambda: progress.advance(bar))


def quality_tables(args: argparse.Namespace, console: Console) -> Iterator[QuestionTable]:
    """A table for each method that was asked for."""
    encoder = str(args.pretrained) if Path(args.pretrained).is_dir() else None
    names = [source_name(source) for source in args.sources]
    name = " + ".join(names)
    data = {"train": args.files["train"], "validation": args.files["validation"], "cache_dir": str(args.cache)}
    data["max_passage"] = MAX_PASSAGE
    where = {"device": args.device, "examples": args.out / f"{NAME}_examples.csv"}
    where["tests"] = {name: args.files[name] for name in names}
    for method in args.methods:
        setting = METHODS[method]
        if setting.pretrained and encoder is None:
            console.print(f"left out: {method}, of the network {args.pretrained}, a folder that there is not")
            continue
        setting = replace(setting, epochs=min(setting.epochs, args.epochs))
        task = question_task(name, method, setting, data, encoder, args.tested, **where)
        yield QuestionTable(name, task, train, args.out / f"{NAME}.csv")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, --quick resolved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="of quality")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of quality")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--epochs", type=int, default=1000, help="of a training, at most (default: each method's own)")
    parser.add_argument("--sources", nargs="+", default=SOURCES, help="JSON lines of questions (default: %(default)s)")
    parser.add_argument("--pretrained", default=PRETRAINED, help="folder of a network (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quick", action="store_true", help="one seed and epoch, the embedded example, in OUT/quick")
    args = parser.parse_args(arguments)
    args.tested = TESTED
    if args.quick:
        args.sources, args.seeds, args.tested, args.out = [EMBEDDED["train"]], [0], 2, args.out / "quick"
        args.epochs = 1
    return args


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts, then write and print the report."""
    args = parse(arguments)
    be_quiet()
    # Generated pairs are not looked at in training.
    warnings.filterwarnings("ignore", "The ``compute`` method of metric")
    console = Console(file=sys.stdout)
    console.print(f"{machine()}, {datetime.date.today()}", highlight=False)
    args.files = split_files(args.sources, args.cache / ("questions_quick" if args.quick else "questions"))
    if "speed" in args.parts:
        timed(args, console)
    if "quality" in args.parts:
        measure(list(quality_tables(args, console)), args.seeds, console)
    console.print(Markdown(write_report(args.out, judge=not args.quick)))


if __name__ == "__main__":
    main()
