"""Cached decoding: whatever rows do, their logits are those of reading everything anew."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lit_modules.parts.unilm_network import UniLMNetwork
from tests.lit_modules.tiny_unilm import VOCABULARY, each_kind, passages, tiny_network


class Rows:
    """Does what a decoder does, and keeps each row's tokens to read them anew."""

    def __init__(self, network: UniLMNetwork, *lengths: int) -> None:
        self.network = network
        self.passage, self.mask = passages(*lengths)
        self.decoder = network.decoder(self.passage, self.mask)
        self.rows: list[tuple[int, list[int]]] = [(number, []) for number in range(len(lengths))]

    def select(self, *rows: int) -> None:
        self.decoder.select(torch.tensor(rows))
        self.rows = [(self.rows[row][0], list(self.rows[row][1])) for row in rows]

    def extend(self, mask: Tensor) -> None:
        tokens = torch.randint(5, VOCABULARY, mask.shape)
        self.decoder.extend(tokens, mask)
        self._note(tokens, mask)

    def advance(self, active: Tensor) -> None:
        tokens = torch.randint(5, VOCABULARY, active.shape)
        self.decoder.advance(tokens, active)
        self._note(tokens[:, None], active[:, None])

    def _note(self, tokens: Tensor, mask: Tensor) -> None:
        for (_, written), new, real in zip(self.rows, tokens, mask, strict=True):
            written.extend(new[real].tolist())

    def check(self) -> None:
        torch.testing.assert_close(self.decoder.logits, self.anew(), atol=1e-4, rtol=0)

    @torch.no_grad()
    def anew(self) -> Tensor:
        """Logits of each row read alone, without padding and without a cache."""
        logits = []
        for number, written in self.rows:
            passage = self.passage[number][self.mask[number]].tolist()
            tokens = torch.tensor([passage + written])
            segments = torch.tensor([[0] * len(passage) + [1] * len(written)])
            logits.append(self.network(tokens, segments, torch.ones_like(tokens).bool())[0, -1])
        return torch.stack(logits)


@each_kind
def test_logits_of_ragged_beams_are_those_of_reading_anew(kind: str) -> None:
    rows = Rows(tiny_network(kind), 9, 6, 4)
    rows.check()
    # Beams of unlike number, crossing over, dying out, and at last a passage that is left out.
    beams = {0: (0, 0, 1, 1, 1, 2), 1: (5, 0, 1, 4, 3, 2), 3: (0, 0, 3, 3, 3, 3), 12: (1, 2, 1, 3), 20: (3, 0)}
    for step in range(30):
        if step in beams:
            rows.select(*beams[step])
            rows.check()
        rows.advance(torch.rand(len(rows.rows)) < 0.8)
        rows.check()


@each_kind
def test_known_tokens_at_once_are_the_same_as_one_at_a_time(kind: str) -> None:
    rows = Rows(tiny_network(kind), 5, 8)
    rows.select(0, 0, 1)
    for lengths in ([3, 0, 1], [0, 4, 2], [1, 1, 1]):
        rows.extend(torch.arange(4)[None] < torch.tensor(lengths)[:, None])
        rows.check()
        rows.advance(torch.tensor([True, False, True]))
        rows.check()


@each_kind
def test_a_copy_goes_on_alone(kind: str) -> None:
    rows = Rows(tiny_network(kind), 7, 5)
    rows.select(0, 1, 1)
    rows.advance(torch.tensor([True, False, True]))
    before = rows.decoder.logits.clone()
    other = rows.decoder.copy()
    for _ in range(12):  # more than there is room for
        other.advance(torch.tensor([5, 6, 7]))
        other.select(torch.tensor([2, 0, 1]))
    torch.testing.assert_close(rows.decoder.logits, before)
    for _ in range(3):
        rows.advance(torch.ones(3).bool())
        rows.check()


@torch.no_grad()
def test_rows_of_a_passage_share_its_keys() -> None:
    """Beams that change places copy none, and none are kept that nobody sees any more."""
    decoder = tiny_network("bert sdpa").decoder(*passages(20, 11))
    before = [layer.data_ptr() for layer in decoder._cache._layers]
    decoder.select(torch.tensor([0, 0, 0, 1, 1, 1]))
    for _ in range(6):
        decoder.advance(torch.full((6,), 9))
        decoder.select(torch.tensor([1, 0, 0, 4, 3, 5]))
    assert [layer.data_ptr() for layer in decoder._cache._layers] == before
    assert decoder._cache.length == 20 + 6 * 3
    for _ in range(30):
        decoder.advance(torch.full((6,), 9))
        decoder.select(torch.tensor([0, 0, 0, 3, 3, 3]))
    # Of 108 written in each passage one row's 36 are seen, and the last few steps' have not been looked at.
    assert decoder._cache.length < 20 + 36 + 30
    assert decoder._cache.room < 2 * (20 + 36)


def test_passages_without_rows_are_forgotten() -> None:
    rows = Rows(tiny_network("bert sdpa"), 4, 7, 5)
    rows.select(2, 0, 2)
    assert {layer.shape[1] for layer in rows.decoder._cache._layers} == {2}
    rows.advance(torch.ones(3).bool())
    rows.check()
    with pytest.raises(ValueError, match="no rows are left"):
        rows.decoder.select(torch.tensor([], dtype=torch.int64))


def test_rows_that_do_not_write_stay_as_they_are() -> None:
    decoder = tiny_network("bert sdpa").decoder(*passages(4, 7))
    before = decoder.logits
    decoder.advance(torch.tensor([8, 8]), torch.tensor([True, False]))
    assert torch.equal(decoder.logits[1], before[1])
    assert not torch.equal(decoder.logits[0], before[0])


def test_a_row_writes_up_to_the_last_position() -> None:
    decoder = tiny_network("bert sdpa").decoder(*passages(62, 9))
    first = torch.tensor([True, False])
    for active in (~first, first, ~first, first, ~first):
        decoder.advance(torch.tensor([8, 8]), active)
    with pytest.raises(ValueError, match="a sequence has 65 tokens, the network takes 64"):
        decoder.advance(torch.tensor([8, 8]), first)
    with pytest.raises(ValueError, match="a sequence has 65 tokens, the network takes 64"):
        tiny_network("bert sdpa").decoder(*passages(65, 3))


def test_dropout_would_make_decoding_wrong() -> None:
    with pytest.raises(ValueError, match=r"in training mode, .* call its eval\(\) first"):
        tiny_network("bert sdpa").train().decoder(*passages(4))


def test_passages_of_unlike_numbers_of_rows_in_half_precision() -> None:
    """What fills in where a passage has fewer rows than another must see something, or its NaN goes to all."""
    network = tiny_network("bert eager")
    for layer in network.model.encoder.layer:
        # Scores so low that no mask can be added to them.
        torch.nn.init.constant_(layer.attention.self.query.bias, 10)
        torch.nn.init.constant_(layer.attention.self.key.bias, -10)
    decoder = network.half().decoder(*passages(4, 7))
    decoder.select(torch.tensor([0, 1, 1]))
    for _ in range(3):
        decoder.advance(torch.full((3,), 9))
        assert decoder.logits.isfinite().all()


@pytest.mark.data
def test_a_pretrained_network(shared_data: Path) -> None:
    folder = str(shared_data.parent / "models" / "roformer-sim-small")
    rows = Rows(UniLMNetwork.pretrained(folder, tied=True).eval(), 40, 23)
    rows.select(0, 0, 1, 1, 1)
    for _ in range(4):
        rows.advance(torch.rand(5) < 0.8)
        rows.check()
