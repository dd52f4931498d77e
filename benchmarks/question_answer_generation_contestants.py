"""What benchmarks.question_answer_generation times: three ways to write pairs, and three to train."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from benchmarks.runs import bare_trainer
from datamodules import PassageDataModule
from lit_modules.parts.pairs import Pair, generate_pairs
from lit_modules.parts.unilm import positions_of, unilm_mask
from lit_modules.parts.unilm_network import UniLMNetwork
from lit_modules.question_answer_generator import QuestionAnswerGenerator

# Numbers of the special tokens where texts are made up, and the first ordinary one.
PAD, UNK, CLS, SEP, FIRST = range(5)
Batch = Mapping[str, Any]


# ---- Generation ----


@dataclass(frozen=True)
class Writing:
    """What is to be written.

    Attributes:
        network: in evaluation mode.
        passages: (B, P), [CLS] tokens [SEP].
        max_answer: tokens of each answer.
        max_question: tokens of each question.
        beams: of the search for questions.
    """

    network: UniLMNetwork
    passages: Tensor
    max_answer: int = 8
    max_question: int = 24
    beams: int = 3

    def pairs(self, reader: Any, passages: Tensor, first: int) -> list[list[Pair]]:
        """One pair of each of some passages; `first` is the number of the first."""
        return generate_pairs(
            reader,
            passages,
            torch.ones_like(passages, dtype=torch.bool),
            number=1,
            seeds=range(first, first + len(passages)),
            end=SEP,
            banned=[PAD, UNK, CLS],
            beams=self.beams,
            max_answer=self.max_answer,
            max_question=self.max_question,
        )


class RecomputingDecoder:
    """A decoder that computes whole sequences anew for each token."""

    def __init__(self, network: UniLMNetwork, passage: Tensor, mask: Tensor) -> None:
        self._network, self._prefix = network, passage.shape[1]
        self._tokens, self._mask = passage, mask
        self._logits: Tensor | None = None

    @property
    @torch.no_grad()
    def logits(self) -> Tensor:
        """(R, V) of the next token."""
        if self._logits is None:
            positions = positions_of(self._mask)
            segments = torch.zeros_like(self._tokens)
            segments[:, self._prefix :] = 1
            mask = unilm_mask(self._mask, segments, self._network.dtype)
            states = self._network.states(self._tokens, segments, positions, mask)
            last = torch.where(self._mask, positions, -1).argmax(dim=1)
            self._logits = self._network.project(states[torch.arange(len(last), device=last.device), last])
        return self._logits

    def advance(self, tokens: Tensor, active: Tensor | None = None) -> None:
        """Write a token in each row, or in the active ones."""
        active = torch.ones_like(tokens, dtype=torch.bool) if active is None else active
        self.extend(tokens[:, None], active[:, None])

    def extend(self, tokens: Tensor, mask: Tensor) -> None:
        """Write several in each row."""
        self._tokens, self._mask = torch.cat([self._tokens, tokens], 1), torch.cat([self._mask, mask], 1)
        self._logits = None

    def select(self, rows: Tensor) -> None:
        """Go on with these rows."""
        self._tokens, self._mask = self._tokens[rows], self._mask[rows]
        self._logits = None if self._logits is None else self._logits[rows]

    def copy(self) -> RecomputingDecoder:
        """Another one in the same state."""
        return copy.copy(self)


class Recomputing:
    """A reader of passages whose decoder keeps nothing."""

    def __init__(self, network: UniLMNetwork) -> None:
        self._network = network

    def decoder(self, passage: Tensor, mask: Tensor) -> RecomputingDecoder:
        """A sequence for each passage."""
        return RecomputingDecoder(self._network, passage, mask)


def recomputed(writing: Writing, passages: int | None = None) -> list[list[Pair]]:
    """Pairs of the first passages, one passage at a time, everything computed anew for each token."""
    reader = Recomputing(writing.network)
    rows = writing.passages[:passages].split(1)
    return [pairs for first, row in enumerate(rows) for pairs in writing.pairs(reader, row, first)]


def cached(writing: Writing) -> list[list[Pair]]:
    """Pairs of all passages at once."""
    return writing.pairs(writing.network, writing.passages, 0)


class EncoderDecoder:
    """Transformers' `generate` of a BERT that reads and a BERT that writes, of the network's sizes and weights.

    The writer has cross attention beside, with random weights.
    """

    def __init__(self, writing: Writing) -> None:
        from transformers import BertConfig, BertLMHeadModel, BertModel, EncoderDecoderModel

        settings = {name: v for name, v in writing.network.settings()["config"].items() if name != "model_type"}
        weights = writing.network.model.state_dict()
        reader = BertModel(BertConfig(**settings), add_pooling_layer=False)
        reader.load_state_dict(weights)
        writer = BertLMHeadModel(BertConfig(**settings | {"is_decoder": True, "add_cross_attention": True}))
        writer.bert.load_state_dict(weights, strict=False)
        self.model: Any = EncoderDecoderModel(encoder=reader, decoder=writer).eval().to(writing.passages.device)
        self.writing = writing

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """Answers are sampled, questions searched for, as ours; (B, T) tokens."""
        writing = self.writing
        special = {"eos_token_id": SEP, "pad_token_id": PAD, "decoder_start_token_id": CLS}
        read = self.model.encoder(writing.passages)
        seen = {"encoder_outputs": read, "attention_mask": torch.ones_like(writing.passages), **special}
        answers = self.model.generate(**seen, do_sample=True, top_p=0.95, top_k=0, **_exactly(writing.max_answer))
        begun = torch.cat([answers, torch.full_like(answers[:, :1], SEP)], dim=1)
        # It changes what it is given.
        seen["encoder_outputs"] = type(read)(last_hidden_state=read.last_hidden_state)
        written: Tensor = self.model.generate(
            **seen, decoder_input_ids=begun, num_beams=writing.beams, **_exactly(writing.max_question)
        )
        return written


def _exactly(tokens: int) -> dict[str, int]:
    return {"min_new_tokens": tokens, "max_new_tokens": tokens}


# ---- Training ----


class Times(Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.ends.append(now(pl_module.device))


def now(device: torch.device) -> float:
    """Seconds on a clock, when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def real_tokens(batch: Batch) -> int:
    """Of a batch's sequences."""
    return sum(int(batch[f"{part}_mask"].sum()) for part in ("passage", "answer", "question"))


def with_lightning(
    data: PassageDataModule, model: Mapping[str, Any], batches: Sequence[Batch], device: str
) -> tuple[list[float], UniLMNetwork]:
    """When each of our module's steps ended, and what it trained."""
    torch.manual_seed(0)
    module, times = QuestionAnswerGenerator(**model), Times()
    module.take_data(data)
    trainer = bare_trainer(
        [times], accelerator="gpu" if device == "cuda" else "cpu", devices=1, max_epochs=1, limit_val_batches=0
    )
    loader: Any = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    # Lightning misses one to validate on even where nothing is validated.
    trainer.fit(module, loader, loader)
    return times.ends, module.network


def plainly(
    data: PassageDataModule, model: Mapping[str, Any], batches: Sequence[Batch], device: str
) -> tuple[list[float], UniLMNetwork]:
    """When each step of a bare loop over the same network ended, and what it trained.

    Args:
        data: has the vocabulary.
        model: arguments of the module.
        batches: all of them are trained on.
        device: "cpu" or "cuda".
    """
    torch.manual_seed(0)
    module = QuestionAnswerGenerator(**model)
    module.take_data(data)
    network = module.network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    ends = []
    for tokens, segments, mask in map(sequences, batches):
        tokens, segments, mask = tokens.to(device), segments.to(device), mask.to(device)
        written = mask & (segments == 1)
        wanted = F.pad(written[:, 1:], (0, 1))
        loss = F.cross_entropy(network(tokens, segments, mask, wanted), tokens[written])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ends.append(now(torch.device(device)))
    return ends, network


def sequences(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, segments and what is real, (B, S) each, of a batch's passages, answers and questions, without padding
    between these.
    """
    parts = ("passage", "answer", "question")
    tokens, mask = torch.cat([batch[p] for p in parts], 1), torch.cat([batch[f"{p}_mask"] for p in parts], 1)
    segments = (torch.arange(tokens.shape[1]) >= batch["passage"].shape[1]).long().expand_as(tokens)
    order = (~mask).int().argsort(dim=1, stable=True)[:, : int(mask.sum(dim=1).max())]
    return tokens.gather(1, order), segments.gather(1, order), mask.gather(1, order)


def trainings(
    data: PassageDataModule, model: Mapping[str, Any], batches: Sequence[Batch], device: str
) -> Iterator[tuple[str, Callable[[], float]]]:
    """The contestants by name, with what gives their tokens/s over all batches but the first, which warms up."""
    tokens = sum(map(real_tokens, batches[1:]))

    def rate(train: Callable[[], tuple[list[float], UniLMNetwork]]) -> Callable[[], float]:
        def measure() -> float:
            ends, _ = train()
            return tokens / (ends[-1] - ends[0])

        return measure

    yield "plain loop", rate(lambda: plainly(data, model, batches, device))
    yield "ours", rate(lambda: with_lightning(data, model, batches, device))
