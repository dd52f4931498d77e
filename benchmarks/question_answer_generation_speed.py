"""Pairs/s and tokens/s of what benchmarks.question_answer_generation compares."""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.question_answer_generation_contestants import (
    CLS,
    FIRST,
    SEP,
    EncoderDecoder,
    Writing,
    cached,
    now,
    recomputed,
    trainings,
)
from benchmarks.reporting import append_rows, machine
from benchmarks.rounds import in_rounds
from datamodules import PassageDataModule
from lit_modules.parts.unilm_network import UniLMNetwork

# Of the small pretrained network; all contestants have it with random weights.
SIZES: dict[str, Any] = {"hidden": 384, "layers": 6, "heads": 6, "dropout": 0.1, "max_positions": 512}
VOCABULARY = 12_000
OURS, RECOMPUTED, TRANSFORMERS = "ours", "recomputed", "transformers"


@dataclass(frozen=True)
class Speed:
    """How much is measured.

    Attributes:
        sizes: of the network.
        vocabulary: tokens, where texts are made up.
        lengths: tokens of the passages, [CLS] and [SEP] included.
        passages: that are written about in a round.
        alone: those of the contestant that takes them one at a time.
        rounds: that count.
        steps: of training that count, in a round.
        batch_size: of training.
        train: a file of questions.
        device: "cpu" or "cuda".
    """

    train: str
    device: str
    sizes: Mapping[str, Any]
    vocabulary: int = VOCABULARY
    lengths: tuple[int, ...] = (128, 256)
    passages: int = 32
    alone: int = 2
    rounds: int = 5
    steps: int = 5
    batch_size: int = 16


def measure_speed(speed: Speed, path: Path, advance: Callable[[], object]) -> None:
    """Measure all anew, and write a row for each contestant and round.

    Args:
        speed: how much.
        path: of the CSV.
        advance: called after each turn of a contestant.
    """
    device = torch.cuda.get_device_name() if speed.device == "cuda" else "cpu"
    origin = {"device": device, "date": datetime.date.today().isoformat(), "machine": machine()}
    rows: list[dict[str, object]] = []
    for length in speed.lengths:
        found = generation_rates(speed, length, advance)
        rows += [{"what": f"pairs, {length} tokens", **row, **origin} for row in _rows(found)]
    rows += [{"what": "training", **row, **origin} for row in _rows(training_rates(speed, advance))]
    path.unlink(missing_ok=True)
    append_rows(path, rows)


def turns(speed: Speed) -> int:
    """How often `measure_speed` calls `advance`."""
    return (3 * len(speed.lengths) + 2) * (speed.rounds + 1)


def _rows(found: Mapping[str, list[float]]) -> list[dict[str, object]]:
    return [
        {"contestant": name, "round": number, "per_second": f"{rate:.5g}"}
        for name, rates in found.items()
        for number, rate in enumerate(rates, 1)
    ]


def generation_rates(speed: Speed, length: int, advance: Callable[[], object]) -> dict[str, list[float]]:
    """Pairs/s in each round.

    Raises:
        RuntimeError: the pairs that are computed anew are others.
    """
    torch.manual_seed(0)
    network = UniLMNetwork.scratch(speed.vocabulary, **speed.sizes, tied=True).eval().to(speed.device)
    passages = torch.randint(FIRST, speed.vocabulary, (speed.passages, length), device=speed.device)
    passages[:, 0], passages[:, -1] = CLS, SEP
    writing = Writing(network, passages)
    check_same(recomputed(writing, speed.alone), cached(writing))
    contestants = {
        RECOMPUTED: _rate(lambda: recomputed(writing, speed.alone), speed.alone, speed.device),
        OURS: _rate(lambda: cached(writing), speed.passages, speed.device),
        TRANSFORMERS: _rate(EncoderDecoder(writing), speed.passages, speed.device),
    }
    return in_rounds(contestants, speed.rounds, advance)


def check_same(one: list[Any], other: list[Any]) -> None:
    """See that pairs are the same as the first of others.

    Raises:
        RuntimeError: they aren't.
    """
    for left, right in zip(one, other, strict=False):
        if [pair[:2] for pair in left] != [pair[:2] for pair in right]:
            raise RuntimeError(f"two ways of decoding give different pairs: {left} and {right}")


def _rate(write: Callable[[], object], pairs: int, device: str) -> Callable[[], float]:
    def measure() -> float:
        start = time.perf_counter()
        write()
        return pairs / (now(torch.device(device)) - start)

    return measure


def training_rates(speed: Speed, advance: Callable[[], object]) -> dict[str, list[float]]:
    """Tokens/s in each round, on the first batches of an epoch."""
    data = PassageDataModule(speed.train, batch_size=speed.batch_size, vocabulary_size=speed.vocabulary)
    data.setup("fit")
    batches = list(itertools.islice(data.train_dataloader(), 1 + speed.steps))
    return in_rounds(dict(trainings(data, speed.sizes, batches, speed.device)), speed.rounds, advance)
