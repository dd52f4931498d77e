"""The texts of each part, and a report of what was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_files import LinkingText, read_texts
from datamodules.loading import random_generator
from datamodules.problems import Problems

PARTS = ("train", "validation", "test", "predict")
_FILES = {"knowledge": "kb", "train": "train"} | dict.fromkeys(("validation", "test", "predict"), "validation")
# The example that comes with the project.
EMBEDDED = {part: str(Path(__file__).with_name(f"linking_{name}.jsonl")) for part, name in _FILES.items()}


class LinkingParts:
    """Texts to train on, to validate and to test on, which are read when they are first asked for.

    Args:
        paths: of the files of `PARTS`; None for a part that has none.
        kb: the knowledge base.
        source: the path of its file.
        val_fraction: part of the training texts that are the validation texts where these have no file.
        seed: says which.
        limit: longer texts are counted.

    Attributes:
        report: what was read, and what is wrong in it.

    Raises:
        ValueError: when texts are asked for: a file is damaged, or all of its texts are held out.
        FileNotFoundError: likewise, there is no such file.
    """

    def __init__(
        self,
        paths: Mapping[str, str | None],
        kb: KnowledgeBase,
        source: str,
        *,
        val_fraction: float,
        seed: int,
        limit: int,
    ) -> None:
        self.report = ""
        self._kb = kb
        self._paths = paths
        self._val_fraction = val_fraction
        self._seed = seed
        self._limit = limit
        self._read: dict[str, list[LinkingText]] = {}
        self._note(f"{source}: {len(kb):,} entities, {kb.num_names:,} names", kb.problems)

    def texts(self, part: str) -> list[LinkingText]:
        """Returns the texts of a part; none where there is neither a file nor something to hold out."""
        if part == "test" or self._paths["validation"] is not None:
            return self._file(part)
        texts = self._file("train")
        order = torch.randperm(len(texts), generator=random_generator(self._seed, "split")).tolist()
        held_out = round(self._val_fraction * len(texts))
        if texts and held_out == len(texts):
            raise ValueError(f"val_fraction={self._val_fraction} leaves none of {len(texts)} texts for training")
        return [texts[row] for row in sorted(order[:held_out] if part == "validation" else order[held_out:])]

    def stream(self, part: str) -> Iterator[LinkingText]:
        """Yields the texts of a part's file in order, and holds none of them."""
        path, problems, texts, mentions = str(self._paths[part]), Problems(), 0, 0
        for text in read_texts(path, problems, limit=self._limit, is_known=self._is_known):
            texts, mentions = texts + 1, mentions + len(text.mentions)
            yield text
        self._note(f"{path}: {texts:,} texts, {mentions:,} mentions", problems)

    def _is_known(self, entity: str) -> bool:
        return self._kb.row(entity) is not None

    def _note(self, what: str, problems: Problems) -> None:
        """Adds to the report, and logs it."""
        lines = "\n    ".join([what, *problems.report()])
        self.report += lines + "\n"
        rank_zero_info(lines)

    def _file(self, part: str) -> list[LinkingText]:
        if part not in self._read:
            self._read[part] = [] if self._paths[part] is None else list(self.stream(part))
        return self._read[part]
