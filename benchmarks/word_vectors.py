"""Word vectors: words/s and time to the same quality, LibraryEmbedding's skip-gram beside gensim's.

    pip install -c constraints.txt -r benchmarks/word_vectors_requirements.txt
    python -m benchmarks.word_vectors

Two parts, which `--parts` does one by one; the report is made of all that was ever measured:

- speed: whole trainings in turns, words/s of the training itself and from the file of words to the vectors. gensim
  reads from a list in memory, or by its workers from the file.
- quality: Spearman's correlation with people on WordSim-353 (English) and CWE-240 (Chinese), and the seconds it took,
  for several numbers of epochs, each of which is a training of its own with the learning rate falling to its end. A
  run that is finished is in the CSV and is not repeated.

Both have the same file of words, windows, negatives, dimension, subsampling and number of threads. The texts are those
of `--data`: text/{en_mixed,zh_modern}.txt.gz and wordsim/{wordsim353.tsv,cwe_240.txt}.gz.

Writes docs/results/word_vectors.md, word_vectors.csv and word_vectors_speed.csv. Both parts want a machine that does
nothing else: on two cores about 15 minutes for speed and 60 for quality. `--quick` shows in about a minute that
everything works, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.reporting import Row, append_rows, machine, read_rows
from benchmarks.rounds import in_rounds
from benchmarks.runs import Advance, Results, Table, Task, be_quiet, measure
from benchmarks.word_vectors_contestants import (
    ADAGRAD,
    CONTESTANTS,
    GENSIM,
    LANGUAGES,
    SGD,
    Corpus,
    similarity,
    write_corpus,
)
from benchmarks.word_vectors_report import Measured, write_report

PARTS = ("speed", "quality")
EPOCHS = {GENSIM: (5, 20), ADAGRAD: (2, 5), SGD: (20,)}
NO_GENSIM = (
    "gensim is not installed, which this benchmark compares with:"
    " pip install -c constraints.txt -r benchmarks/word_vectors_requirements.txt"
)


# ---- Speed ----


def time_trainings(corpora: dict[str, Corpus], args: argparse.Namespace, console: Console) -> None:
    """Write word_vectors_speed.csv anew; the first language stands for all."""
    corpus = corpora[args.languages[0]]

    def words_per_second(name: str) -> tuple[float, float]:
        trained = CONTESTANTS[name](corpus, args.epochs, 0, lambda _: None)
        words = corpus.words * args.epochs
        return words / trained.training, words / trained.total

    contestants = {name: functools.partial(words_per_second, name) for name in CONTESTANTS}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("speed", total=len(contestants) * (args.rounds + 1))
        results = in_rounds(contestants, args.rounds, lambda: progress.advance(bar))
    common = {"language": args.languages[0], "words": corpus.words, "epochs": args.epochs, "workers": args.workers}
    where = {"date": datetime.date.today().isoformat(), "machine": machine()}
    rows = [
        {"contestant": name, "round": number, "training": f"{training:.0f}", "end_to_end": f"{total:.0f}"}
        | common
        | where
        for name, values in results.items()
        for number, (training, total) in enumerate(values, 1)
    ]
    (args.out / "word_vectors_speed.csv").unlink(missing_ok=True)
    append_rows(args.out / "word_vectors_speed.csv", rows)


# ---- Quality ----


@dataclass(frozen=True, kw_only=True)
class Words(Task):
    """A language's words, and one number of epochs as the steps."""

    language: str
    corpus: Corpus


@dataclass(frozen=True)
class WordsTable(Table[Words]):
    """The runs of a language with one number of epochs."""

    def key(self, method: str, seed: int) -> dict[str, str]:
        """What makes a run the same as an earlier one."""
        task = self.task
        where = {"language": task.language, "words": str(task.corpus.words), "workers": str(task.corpus.workers)}
        return where | {"method": method, "epochs": str(task.steps), "seed": str(seed)}


def train(task: Words, method: str, seed: int, advance: Advance) -> Results:
    """One row: quality and seconds."""
    trained = CONTESTANTS[method](task.corpus, task.steps, seed, advance)
    seconds = {"seconds": f"{trained.training:.1f}", "seconds_end_to_end": f"{trained.total:.1f}"}
    return [similarity(trained, task.corpus.pairs) | seconds]


def tables(corpora: dict[str, Corpus], args: argparse.Namespace) -> list[WordsTable]:
    """One for each language and number of epochs."""
    made = []
    for language, corpus in corpora.items():
        for epochs in sorted({epochs for some in args.all_epochs.values() for epochs in some}):
            methods = {name: CONTESTANTS[name] for name, some in args.all_epochs.items() if epochs in some}
            task = Words(
                steps=epochs,
                methods=methods,
                shared={},
                samples=0,
                language=language,
                corpus=corpus,
            )
            made.append(WordsTable(f"{language}, {epochs} epoch(s)", task, train, args.out / "word_vectors.csv"))
    return made


# ---- The command ----


def measured_so_far(args: argparse.Namespace) -> Measured:
    """The rows of both CSVs."""
    speed, quality = (read_rows(args.out / f"word_vectors{name}.csv") for name in ("_speed", ""))
    seeds = {str(seed) for seed in args.seeds}
    kept: list[Row] = [row for row in quality if row["seed"] in seeds]
    return Measured(speed, kept)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, --quick resolved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--languages", nargs="+", choices=list(LANGUAGES), default=list(LANGUAGES))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=5, help="of a training of speed (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of speed that count (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of quality (default: 0 1 2)")
    parser.add_argument("--workers", type=int, default=2, help="threads of each contestant (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quick", action="store_true", help="1,000 lines, one round, one seed, into OUT/quick")
    args = parser.parse_args(arguments)
    if min(args.epochs, args.rounds, args.workers) < 1:
        parser.error("--epochs, --rounds and --workers must be at least 1")
    args.lines, args.all_epochs = None, EPOCHS
    if args.quick:
        args.lines, args.epochs, args.rounds, args.seeds, args.out = 1000, 1, 1, [0], args.out / "quick"
        args.all_epochs = {GENSIM: (1,), ADAGRAD: (1, 2)}
    return args


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts, then write and print the report."""
    args = parse(arguments)
    if importlib.util.find_spec("gensim") is None:
        sys.exit(NO_GENSIM)
    be_quiet()
    torch.set_num_threads(args.workers)
    args.out.mkdir(parents=True, exist_ok=True)
    console = Console(file=sys.stdout)
    console.print(f"{machine()}, {datetime.date.today()}", highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        corpora = {
            language: write_corpus(language, args.data, Path(folder), args.workers, args.lines)
            for language in args.languages
        }
        if "speed" in args.parts:
            time_trainings(corpora, args, console)
        if "quality" in args.parts:
            measure(tables(corpora, args), args.seeds, console)
    console.print(Markdown(write_report(args.out, measured_so_far(args), judge=not args.quick)))


if __name__ == "__main__":
    main()
