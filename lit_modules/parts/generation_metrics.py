"""How good generated questions and answers are: overlap with reference ones, share found in the passage, variety.

All compare words: Chinese and Japanese characters each for itself, otherwise what stands between spaces, in lower case
and without punctuation. All values are means over what was generated, each of it counting the same, and make no
difference between texts that came in other batches or in other processes.
"""

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.text.rouge import rouge_score
from torchmetrics.utilities import dim_zero_cat

from lit_modules.parts.counts import Counts, ratio

# Scripts without spaces between words: Han with its marks and extensions, and kana.
_ALONE = "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_ALONE}]|[^\s{_ALONE}]+")
_ARTICLES = ("a", "an", "the")
# A part of 1 is counted in units of so much.
_UNIT = 2**30
_LONGEST = 4


# ---- Words ----


def words(text: str) -> list[str]:
    """The words of a text as all these metrics see them; full-width forms are the usual ones."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return _WORD.findall("".join(sign for sign in plain if unicodedata.category(sign)[0] not in "PS"))


def answer_words(text: str) -> list[str]:
    """The words of an answer, without English articles, as SQuAD counts them (Rajpurkar et al., 2016)."""
    return [word for word in words(text) if word not in _ARTICLES]


# ---- Metrics ----


class AnswerOverlap(Counts):
    """Exact match and F1 of answers as SQuAD has them, each against the reference answer that is best for it."""

    exact: Tensor
    overlap: Tensor
    answers: Tensor

    def __init__(self) -> None:
        super().__init__("exact", "overlap", "answers")

    def update(self, answers: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add answers, each with all the reference answers of its passage.

        Raises:
            ValueError: there are not as many of the one as of the other, or an answer has no reference.
        """
        for answer, gold in _referred(answers, references):
            found, right = answer_words(answer), [answer_words(reference) for reference in gold]
            f1 = max(_f1(found, reference) for reference in right)
            self.count(exact=int(found in right), overlap=round(f1 * _UNIT), answers=1)

    def compute(self) -> dict[str, Tensor]:
        """ "exact_match" and "f1" (scalars), 0 where there are no answers."""
        return {"exact_match": ratio(self.exact, self.answers), "f1": _share(self.overlap, self.answers)}


class QuestionOverlap(Counts):
    """ROUGE-L and BLEU of questions against all reference questions of their passage.

    ROUGE-L (Lin, 2004) is the F1 of the longest common subsequence with the reference that is best for it, as
    torchmetrics has it. BLEU (Papineni et al., 2002) is that of all questions together, up to 4 words, not smoothed;
    torchmetrics' counts in place and in the module's precision.
    """

    overlap: Tensor
    questions: Tensor
    length: Tensor
    reference_length: Tensor

    def __init__(self) -> None:
        super().__init__("overlap", "questions", "length", "reference_length", *_names("right"), *_names("all"))

    def update(self, questions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add questions, each with all the reference questions of its passage.

        Raises:
            ValueError: there are not as many of the one as of the other, or a question has no reference.
        """
        for question, gold in _referred(questions, references):
            found, right = words(question), [words(reference) for reference in gold]
            rouge = rouge_score(
                question, [list(gold)], rouge_keys="rougeL", normalizer=lambda text: text, tokenizer=words
            )
            self.count(overlap=round(float(rouge["rougeL_fmeasure"]) * _UNIT), questions=1)
            # The closest reference, the first of those that are equally close.
            closest = min(map(len, right), key=lambda length: abs(length - len(found)))
            self.count(length=len(found), reference_length=closest)
            self.count(**_matches(found, right))

    def compute(self) -> dict[str, Tensor]:
        """ "rouge_l" and "bleu" (scalars), 0 where there are no questions."""
        return {"rouge_l": _share(self.overlap, self.questions), "bleu": self._bleu()}

    def _bleu(self) -> Tensor:
        right, total = ([int(getattr(self, name)) for name in _names(kind)] for kind in ("right", "all"))
        if min(right) == 0:
            return torch.zeros((), device=self.length.device)
        precisions = [math.log(found / of) for found, of in zip(right, total, strict=True)]
        brevity = min(0.0, 1 - int(self.reference_length) / int(self.length))
        return torch.tensor(math.exp(brevity + sum(precisions) / _LONGEST), device=self.length.device)


class AnswerInPassage(Counts):
    """The share of answers that stand in their passages, whatever their case, punctuation and spaces.

    Of an answer without words, such as a dash, everything counts; an empty one is in no passage.
    """

    found: Tensor
    answers: Tensor

    def __init__(self) -> None:
        super().__init__("found", "answers")

    def update(self, answers: Sequence[str], passages: Sequence[str]) -> None:
        """Add answers with their passages.

        Raises:
            ValueError: there are not as many of the one as of the other.
        """
        for answer, passage in _pairs(answers, passages):
            span, text = "".join(words(answer)), "".join(words(passage))
            if not span:
                span, text = answer.strip(), passage
            self.count(found=int(bool(span) and span in text), answers=1)

    def compute(self) -> Tensor:
        """The share (scalar), 0 where there are no answers."""
        return ratio(self.found, self.answers)


class Distinct(Metric):
    """Distinct-n: how many of all n-grams in all texts are different ones (Li et al., 2016).

    It falls with the number of texts: compare values for as many.

    Args:
        n: words of an n-gram.
    """

    seen: list[Tensor]
    total: Tensor

    def __init__(self, n: int = 2) -> None:
        super().__init__()
        self.n = n
        self.add_state("seen", [], dist_reduce_fx="cat")
        self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.reset()

    def reset(self) -> None:
        """Forget all texts."""
        super().reset()
        # For the process that sees no text: torchmetrics would send float32 for an empty list.
        self.seen = [torch.zeros(0, dtype=torch.int64, device=self.device)]

    def update(self, texts: Sequence[str]) -> None:
        """Add texts."""
        grams = [_number(gram) for text in texts for gram in _grams(words(text), self.n)]
        self.total = self.total + len(grams)
        self.seen = [torch.cat([*self.seen, torch.tensor(grams, dtype=torch.int64, device=self.device)]).unique()]

    def compute(self) -> Tensor:
        """The share (scalar), 0 where there are no n-grams."""
        seen: Tensor = dim_zero_cat(self.seen)
        return ratio(torch.tensor(seen.unique().numel(), device=seen.device), self.total)


# ---- What they share ----


def _pairs(left: Sequence[str], right: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    if len(left) != len(right):
        raise ValueError(f"there are {len(left)} generated texts and {len(right)} to compare them with")
    return zip(left, right, strict=True)


def _referred(generated: Sequence[str], references: Sequence[Sequence[str]]) -> Iterator[tuple[str, Sequence[str]]]:
    for text, gold in _pairs(generated, references):
        if not gold or isinstance(gold, str):
            raise ValueError(f"each text needs a list of references, one at least; {text!r} has {gold!r}")
        yield text, gold


def _f1(found: list[str], right: list[str]) -> float:
    if not found or not right:
        return float(found == right)
    return 2 * (Counter(found) & Counter(right)).total() / (len(found) + len(right))


def _share(units: Tensor, number: Tensor) -> Tensor:
    return ratio(units.double() / _UNIT, number)


def _grams(of: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return (tuple(of[start : start + n]) for start in range(len(of) - n + 1))


def _names(kind: str) -> list[str]:
    return [f"{kind}_{n}" for n in range(1, _LONGEST + 1)]


def _matches(found: list[str], right: Sequence[list[str]]) -> dict[str, int]:
    """Of each length the n-grams, and those that are right: at most as many as the reference with most of them has."""
    counts: dict[str, int] = {}
    for n in range(1, _LONGEST + 1):
        own, best = Counter(_grams(found, n)), Counter[tuple[str, ...]]()
        for reference in right:
            best |= Counter(_grams(reference, n))
        counts |= {f"right_{n}": (own & best).total(), f"all_{n}": own.total()}
    return counts


def _number(gram: tuple[str, ...]) -> int:
    """A hash of 64 bits: among a million different ones two are the same with a probability of 3e-8."""
    return int.from_bytes(hashlib.blake2b("\n".join(gram).encode(), digest_size=8).digest(), signed=True)
