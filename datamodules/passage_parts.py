"""The questions of each part, read, split and written into the cache, and a report of what was read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from datamodules.cache_folders import cached_folder
from datamodules.json_lines import existing_file
from datamodules.loading import random_generator
from datamodules.passage_cache import Limits, PassagePairs, write_pairs
from datamodules.passage_cutting import Piece, cut
from datamodules.passage_files import Question, read_passages, read_questions
from datamodules.passage_tokenizer import PassageTokenizer, trained
from datamodules.problems import Problems

PARTS = ("train", "validation", "test", "predict")
# The example that comes with the project.
EMBEDDED = {
    part: str(Path(__file__).with_name(f"passages_{'train' if part == 'train' else 'validation'}.jsonl"))
    for part in PARTS
}
# Part of the caches' keys: other rules get other numbers.
_VERSION = 1


class PassageParts:
    """Pairs to train on, to validate and to test on, which are read when they are first asked for.

    Args:
        paths: of the files of `PARTS`; None for a part that has none.
        cache: folder for caches.
        val_fraction: part of the training passages whose questions are validated on, where these have no file.
        seed: says which.

    Attributes:
        report: what was read, and what is wrong in it.

    Raises:
        ValueError: when pairs are asked for: a file is damaged, nothing in it can be used, or all is held out.
        FileNotFoundError: likewise, there is no such file.
    """

    def __init__(self, paths: Mapping[str, str | None], cache: Path, *, val_fraction: float, seed: int) -> None:
        self.report = ""
        self._paths = paths
        self._cache = cache
        self._val_fraction = val_fraction
        self._seed = seed
        self._digests: dict[str, str] = {}

    def key(self, part: str) -> list[str | int | float]:
        """Returns what tells the questions of a part from others: the file's content, and how it is split."""
        if not self._is_split(part):
            return [self._digest(self._path(part))]
        return [self._digest(self._path("train")), part, self._val_fraction, self._seed]

    def tokenizer(self, size: int) -> str:
        """Returns a tokenizer that the training part's texts give, in JSON; see `trained`."""

        def write(folder: Path) -> None:
            texts = (text for q in self._questions("train", Problems()) for text in _texts(q))
            (folder / "tokenizer.json").write_text(trained(dict.fromkeys(texts), size))

        folder = cached_folder(self._cache, [_VERSION, "tokenizer", *self.key("train"), size], write)
        return (folder / "tokenizer.json").read_text()

    def pairs(self, part: str, tokenizer: PassageTokenizer, limits: Limits) -> PassagePairs:
        """Returns the pairs of a part; the first process that asks for them writes them into the cache."""
        path = self._path(part)

        def write(folder: Path) -> None:
            problems = Problems()
            # What is wrong with a file that is split is counted once.
            questions = self._questions(part, Problems() if self._is_split(part) and part != "train" else problems)
            write_pairs(folder, path, questions, problems, tokenizer, limits)

        text = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
        # The report names the file.
        key = [_VERSION, "pairs", *self.key(part), path, text, *limits]
        found = PassagePairs(cached_folder(self._cache, key, write))
        self._note(f"{path} ({part}): {found.summary}", found.problems)
        if not len(found) and self._paths[part] is not None:
            raise ValueError(f"{path} has no question that can be used: {'; '.join(found.problems.report())}")
        return found

    def stream(self, tokenizer: PassageTokenizer, limit: int) -> Iterator[tuple[int, Piece]]:
        """Yields the pieces of the passages to predict on with their numbers, and holds one passage at a time."""
        path, problems, passages, number = self._path("predict"), Problems(), 0, 0
        for passage in read_passages(path, problems):
            passages += 1
            ((tokens, offsets),) = tokenizer([passage])
            pieces, torn = cut(passage, tokens, offsets, limit)
            if torn or not pieces:
                what = f"with a sentence of over {limit} tokens, which is cut" if torn else "without a token, left out"
                problems.add(f"passages {what}", path, passages, passage[:40])
            for piece in pieces:
                yield number, piece
                number += 1
        self._note(f"{path}: {passages:,} passages, {number:,} pieces", problems)

    def _is_split(self, part: str) -> bool:
        return part != "test" and self._paths["validation"] is None

    def _path(self, part: str) -> str:
        return str(self._paths[part] or self._paths["train"])

    def _digest(self, path: str) -> str:
        if path not in self._digests:
            with existing_file(path, "passage file").open("rb") as file:
                self._digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[path]

    def _questions(self, part: str, problems: Problems) -> list[Question]:
        questions = list(read_questions(self._path(part), problems))
        if not self._is_split(part):
            return questions
        held_out = self._held_out(questions)
        kept = [question for question in questions if (question.passage in held_out) == (part == "validation")]
        if part == "train" and not kept:
            raise ValueError(f"val_fraction={self._val_fraction} leaves none of {len(questions)} questions to train on")
        return kept

    def _held_out(self, questions: Sequence[Question]) -> set[str]:
        """The passages that are held out: so many that neither they nor their questions are trained on."""
        groups = together(questions)
        most = round(self._val_fraction * sum(map(len, groups)))
        held_out = set[str]()
        for number in torch.randperm(len(groups), generator=random_generator(self._seed, "split")).tolist():
            if len(held_out) + len(groups[number]) <= most:
                held_out.update(groups[number])
        return held_out

    def _note(self, what: str, problems: Problems) -> None:
        """Adds to the report, and logs it."""
        lines = "\n    ".join([what, *problems.report()])
        self.report += lines + "\n"
        rank_zero_info(lines)


def together(questions: Sequence[Question]) -> list[list[str]]:
    """Returns the passages in groups, each in the order of the file: those with a question in common are together."""
    passages = list(dict.fromkeys(question.passage for question in questions))
    parents = list(range(len(passages)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    numbers = {passage: number for number, passage in enumerate(passages)}
    first: dict[str, int] = {}
    for question in questions:
        one = root(numbers[question.passage])
        other = root(first.setdefault(question.question, one))
        parents[max(one, other)] = min(one, other)
    groups: dict[int, list[str]] = {}
    for number, passage in enumerate(passages):
        groups.setdefault(root(number), []).append(passage)
    return list(groups.values())


def _texts(question: Question) -> Iterator[str]:
    yield question.passage
    yield question.question
    yield from (answer.text for answer in question.answers)
