"""From texts of passages to texts of questions and answers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_modules.parts.pairs import Pair, generate_pairs
from lit_modules.parts.qa_tokenizer import Encoded, QATokenizer
from lit_modules.parts.unilm_network import UniLMNetwork


class GeneratedPair(NamedTuple):
    """A question and its answer.

    Attributes:
        question: its text.
        answer: its text; as it stands in the passage, if it does.
        score: log-probability of both.
        start: place of the answer's first character in the passage; None where it isn't there.
        end: the place behind its last one.
    """

    question: str
    answer: str
    score: float
    start: int | None = None
    end: int | None = None


class Asker:
    """Writes pairs about texts.

    Args:
        network: in evaluation mode.
        tokenizer: of its vocabulary.
        hparams: those of QuestionAnswerGenerator that say how.
        device: the network's.
    """

    def __init__(
        self, network: UniLMNetwork, tokenizer: QATokenizer, hparams: Mapping[str, Any], device: torch.device
    ) -> None:
        names = ("answer_first", "answer_in_passage", "beams", "top_k", "top_p", "temperature")
        self._how = {name: hparams[name] for name in (*names, "max_answer", "max_question")}
        self._network, self._tokenizer, self._pairs, self._device = network, tokenizer, hparams["pairs"], device

    def about(
        self, passages: Sequence[str], seeds: Sequence[int], number: int | None = None
    ) -> list[list[GeneratedPair]]:
        """Pairs about each passage.

        Args:
            passages: texts, which are all read at once.
            seeds: of the random numbers for each of them.
            number: of pairs for each; that of the hyper-parameters by default.
        """
        encoded = [self._tokenizer.encode(passage) for passage in passages]
        rows = [row for row, one in enumerate(encoded) if one.numbers]
        found: list[list[GeneratedPair]] = [[] for _ in passages]
        if not rows:
            return found
        tokens, mask = self._padded([encoded[row].numbers for row in rows])
        drawn = generate_pairs(
            self._network,
            tokens,
            mask,
            number=self._pairs if number is None else number,
            seeds=[seeds[row] for row in rows],
            end=self._tokenizer.sep,
            banned=self._tokenizer.unwritten,
            continuing=self._tokenizer.continuing,
            **self._how,
        )
        for row, pairs in zip(rows, drawn, strict=True):
            found[row] = [self._spoken(passages[row], encoded[row], pair) for pair in pairs]
        return found

    def _padded(self, texts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """[CLS] text [SEP] of each, (B, P), and which tokens are real, (B, P)."""
        cls, sep = self._tokenizer.cls, self._tokenizer.sep
        width = 2 + max(map(len, texts))
        rows = [[cls, *text, sep, *[0] * (width - 2 - len(text))] for text in texts]
        lengths = torch.tensor([[2 + len(text)] for text in texts])
        return torch.tensor(rows, device=self._device), (torch.arange(width) < lengths).to(self._device)

    def _spoken(self, passage: str, encoded: Encoded, pair: Pair) -> GeneratedPair:
        question = self._tokenizer.decode(pair.question)
        place = _place(pair.answer, encoded.numbers)
        if place is None:
            return GeneratedPair(question, self._tokenizer.decode(pair.answer), pair.score)
        start, end = encoded.offsets[place][0], encoded.offsets[place + len(pair.answer) - 1][1]
        return GeneratedPair(question, passage[start:end], pair.score, start, end)


def _place(part: Sequence[int], whole: Sequence[int]) -> int | None:
    """Where a sequence first stands in another one; None where it doesn't."""
    places = range(len(whole) - len(part) + 1)
    return next((place for place in places if list(whole[place : place + len(part)]) == list(part)), None)
