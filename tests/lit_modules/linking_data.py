"""A tiny knowledge base, texts, and a datamodule of them, written out character by character."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from tests.lit_modules.libraries import InOrder


class Entity(NamedTuple):
    id: str
    subject: str
    description: str
    objects: tuple[str, ...] = ()


class Mention(NamedTuple):
    start: int
    end: int
    entity: str | None


class Text(NamedTuple):
    id: str
    text: str
    mentions: tuple[Mention, ...] = ()


# Two entities are called Ab: the text tells them apart by x or y. Cd is a mention after l only.
ENTITIES = [Entity("ab-x", "Ab", "kind:x", ("x",)), Entity("ab-y", "Ab", "kind:yy"), Entity("cd", "cd", "cd:w")]
NAMES = {"ab": (0, 1), "cd": (2,)}
CHARACTERS = ["", "?", *"abcdefghijklmnopqrstuvwxyz:"]


def written(texts: int = 96, seed: int = 0) -> list[Text]:
    """Texts of 8 to 12 characters in which an Ab and perhaps a cd stand, the latter not always meant."""
    random, made = np.random.default_rng(seed), []
    for number in range(texts):
        kind, meant = random.choice(["x", "y"]), random.random() < 0.5
        noise = ["".join(random.choice(list("efghi"), random.integers(1, 3))) for _ in range(3)]
        before = f"{noise[0]}{kind}{noise[1]}"
        text = f"{before}Ab{noise[2]}{'l' if meant else 'm'}cd"
        mentions = [Mention(len(before), len(before) + 2, f"ab-{kind}")]
        mentions += [Mention(len(text) - 2, len(text), "cd" if meant else None)]
        made.append(Text(str(number), text, tuple(mentions)))
    return made


def padded(rows: Sequence[Sequence[float]], width: int = 0) -> Tensor:
    width = max([width, *map(len, rows)])
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])


class Knowledge:
    def entity(self, row: int) -> Entity:
        return ENTITIES[row]

    def id(self, row: int) -> str:
        return ENTITIES[row].id


class TinyLinking(LightningDataModule):
    """What a linker needs of its datamodule.

    Args:
        batch_size: texts in a batch, of all processes.
        rank: this process, which gets each world_size-th text of a batch.
        world_size: number of processes.
        pieces: gives pieces for an encoder too, one for every two characters.
        words: gives a word, 1 or 2, for each character, and vectors of 3 numbers.
        chunk: rows at a time in evaluation.
        texts: in place of those that are `written`.
        learned: whether characters and word vectors are known, before a state is loaded.
    """

    def __init__(
        self,
        batch_size: int = 16,
        *,
        rank: int = 0,
        world_size: int = 1,
        pieces: bool = False,
        words: bool = False,
        chunk: int = 5,
        texts: list[Text] | None = None,
        learned: bool = True,
    ) -> None:
        super().__init__()
        self.batch_size, self.share = batch_size, slice(rank, None, world_size)
        self.pieces, self.words, self.chunk = pieces, words, chunk
        self.texts = written() if texts is None else texts
        self.kb, self.characters = Knowledge(), list(CHARACTERS) if learned else []
        self.word_vectors = torch.tensor([[0.0] * 3, [1, 2, 3], [-1, 0, 1]]) if words and learned else None
        self.prepared: list[str] = []

    # ---- What the Trainer asks for ----

    def prepare_data(self) -> None:
        self.prepared.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.prepared.append(f"setup {TrainerFn(stage).value}")

    def state_dict(self) -> dict[str, Any]:
        return {"characters": self.characters, "word_vectors": self.word_vectors}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.prepared.append("load")
        self.characters, self.word_vectors = state_dict["characters"], state_dict["word_vectors"]

    def _parts(self) -> list[list[Text]]:
        starts = range(0, len(self.texts), self.batch_size)
        return [self.texts[start : start + self.batch_size][self.share] for start in starts]

    def train_dataloader(self) -> InOrder:
        return InOrder([self.training_batch(part) for part in self._parts()])

    def val_dataloader(self) -> InOrder:
        return InOrder([self.encode(part) for part in self._parts()])

    test_dataloader = predict_dataloader = val_dataloader

    # ---- What the linker asks for ----

    def training_batch(self, texts: Sequence[Text]) -> dict[str, Any]:
        """With a row for each candidate of each mention."""
        batch = self.encode(texts)
        gold = [(number, *mention) for number, text in enumerate(texts) for mention in text.mentions if mention.entity]
        asked = [
            (number, start, end, np.array(self._named(texts[number], start, end))) for number, start, end, _ in gold
        ]
        parts = [rows for rows, _ in self._rows(asked, texts, batch["mask"].shape[1], 10**6, shared=False)]
        rows = parts[0] if parts else {"linked": torch.zeros(0)}
        right = [entity for *_, entity in gold]
        linked = [float(ENTITIES[row].id == e) for e, mention in zip(right, asked, strict=True) for row in mention[3]]
        return {name: x for name, x in batch.items() if name != "texts"} | {
            "rows": rows | {"linked": torch.tensor(linked)}
        }

    def encode(self, texts: Sequence[Any]) -> dict[str, Any]:
        read = [text.text.lower() for text in texts]
        width = max([1, *map(len, read)])
        matches = torch.zeros(len(texts), width, 2)
        starts, ends = torch.zeros(2, len(texts), width)
        for number, text in enumerate(read):
            for place in range(len(text)):
                if text[place : place + 2] in NAMES:
                    matches[number, place, 0] = matches[number, place + 1, 1] = 1
            for mention in texts[number].mentions:
                if mention.entity is not None and mention.end <= len(text):
                    starts[number, mention.start] = ends[number, mention.end - 1] = 1
        batch = self._tokens(read, "") | {"matches": matches, "starts": starts, "ends": ends, "texts": list(texts)}
        batch["mask"] = padded([[1] * len(text) for text in read], width).bool()
        return batch

    def rows(
        self, texts: Sequence[Text], mentions: Sequence[Any], width: int
    ) -> Iterator[tuple[dict[str, Tensor], Any]]:
        return self._rows(mentions, texts, width, self.chunk, shared=True)

    def candidates_of(self, text: Text, start: int, end: int, restricted: bool) -> np.ndarray:
        named = self._named(text, start, end)
        return np.array(named[:1] if restricted else named, np.int64)

    def _named(self, text: Text, start: int, end: int) -> tuple[int, ...]:
        return NAMES.get(text.text.lower()[start:end], ())

    def _rows(
        self, mentions: Sequence[Any], texts: Sequence[Text], width: int, chunk: int, *, shared: bool
    ) -> Iterator[Any]:
        """Each chunk's rows and their numbers; shared descriptions come once, their rows together."""
        flat = [(number, start, end, row) for number, start, end, rows in mentions for row in rows]
        order = sorted(range(len(flat)), key=lambda row: flat[row][3] if shared else row)
        for first in range(0, len(flat), chunk):
            numbers = order[first : first + chunk]
            part, place = [flat[number] for number in numbers], torch.arange(width)
            meant = [row for *_, row in part]
            entities = sorted(set(meant)) if shared else meant
            entity_of = [entities.index(row) for row in meant] if shared else range(len(meant))
            rows = {
                "text_of": torch.tensor([number for number, *_ in part]),
                "mention": torch.stack([((place >= start) & (place < end)).float() for _, start, end, _ in part]),
                "features": torch.stack([self._common(texts[number].text, row, width) for number, _, _, row in part]),
                "entity_of": torch.tensor(entity_of),
                **self._tokens([ENTITIES[row].description for row in entities], "entity_"),
            }
            yield rows, np.array(numbers)

    def _common(self, text: str, row: int, width: int) -> Tensor:
        entity = ENTITIES[row]
        common = padded([[c in entity.description for c in text], [0], [c in entity.objects for c in text]], width)
        return common.float().T

    def _tokens(self, texts: Sequence[str], prefix: str) -> dict[str, Tensor]:
        """Characters, words if there are any; with pieces these too, for descriptions in their place."""
        numbers = [[CHARACTERS.index(c) if c in CHARACTERS else 1 for c in text] for text in texts]
        tokens = {"characters": padded(numbers, 1).long(), "mask": padded([[1] * len(t) for t in texts], 1).bool()}
        if self.words:
            tokens["words"] = 1 + tokens["characters"] % 2
        if self.pieces:
            # [CLS] is 1; the piece of a character is that of its pair.
            pieces = [[1, *row[::2]] for row in numbers]
            split = {"pieces": padded(pieces).long(), "piece_mask": padded([[1] * len(p) for p in pieces]).bool()}
            tokens = split if prefix else tokens | split
            if not prefix:
                tokens["piece_of"] = (1 + torch.arange(tokens["characters"].shape[1]) // 2).expand(len(texts), -1)
        return {prefix + name: values for name, values in tokens.items()}
