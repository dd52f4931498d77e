"""How well the similarity of vectors agrees with people's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor
from torchmetrics.functional import spearman_corrcoef

from callbacks.item_evaluation import ItemEvaluation
from callbacks.items import Metric, check_metric, folded, numbered, similarity
from callbacks.word_files import WordPair, read_word_pairs


class WordSimilarity(ItemEvaluation):
    """Logs val/wordsim, Spearman's rank correlation of the vectors' similarities with human scores.

    It is that of the pairs with two known words; val/wordsim_oov is the number of the others. Compare values only
    where this number is the same. Several files have names: val/wordsim_NAME and val/wordsim_NAME_oov.

    `callbacks.word_files.read_word_pairs` says what the files look like.

    Args:
        path: a file; or several, whose names are those of the files without their endings; or names and files.
        metric: what makes vectors similar, their "cosine" or a small "distance".
        ignore_case: whether words that differ in case only are the same; of several such items the first counts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an argument is out of its range, a file is broken, two files have one name, or (when training
            starts) fewer than two pairs of a file are known.
    """

    def __init__(
        self, path: str | list[str] | dict[str, str], metric: Metric = "cosine", ignore_case: bool = True
    ) -> None:
        check_metric(metric)
        self.metric = metric
        self.ignore_case = ignore_case
        self._sets = {name: read_word_pairs(file) for name, file in _named(path).items()}

    def check(self, items: list[str]) -> None:
        """Refuse items of which no ranks can be compared."""
        for name in self._sets:
            self._known(name, items)

    def measure(self, trainer: pl.Trainer, items: list[str], vectors: Tensor) -> dict[str, float]:
        """The correlation of each file, and its number of unknown pairs."""
        values: dict[str, float] = {}
        for name, pairs in self._sets.items():
            known, scores = self._known(name, items)
            left, right = vectors[known.to(vectors.device)].unbind(dim=1)
            ours = similarity(self.metric, left, right).double().cpu()
            values[name] = spearman_corrcoef(ours, scores).item()
            values[f"{name}_oov"] = len(pairs) - len(known)
        return values

    def _known(self, name: str, items: list[str]) -> tuple[Tensor, Tensor]:
        """The pairs (P, 2) of items that are known, and their scores (P,)."""
        numbers = numbered(items, self.ignore_case)
        rows: list[list[int]] = []
        scores: list[float] = []
        for pair in self._sets[name]:
            row = [numbers.get(folded(word, self.ignore_case), -1) for word in (pair.left, pair.right)]
            if min(row) >= 0:
                rows.append(row)
                scores.append(pair.score)
        if len(rows) < 2:
            raise ValueError(_too_few(name, len(rows), self._sets[name], len(items)))
        return torch.tensor(rows), torch.tensor(scores, dtype=torch.float64)


def _named(path: str | list[str] | dict[str, str]) -> dict[str, str]:
    """Files by the name under which they are logged."""
    if isinstance(path, dict):
        named = {f"wordsim_{name}": file for name, file in path.items()}
    elif isinstance(path, list):
        named = {f"wordsim_{_stem(file)}": file for file in path}
        if len(named) < len(path):
            raise ValueError(f"two files of word pairs have one name: {', '.join(path)}; give names to them")
    else:
        named = {"wordsim": path}
    if not named:
        raise ValueError("path must name a file of word pairs, got none")
    return named


def _stem(file: str) -> str:
    return Path(file.removesuffix(".gz")).stem


def _too_few(name: str, known: int, pairs: Sequence[WordPair], num_items: int) -> str:
    return (
        f"{name}: the module knows both words of {known} of {len(pairs)} pairs, such as {pairs[0].left!r} and"
        f" {pairs[0].right!r}; a rank correlation takes two at least. Its {num_items} items are other words"
    )
