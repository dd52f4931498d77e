"""Readers: an LSTM over embeddings, or a pretrained network."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_modules.parts.readers import (
    EncoderError,
    PretrainedReader,
    RecurrentReader,
    encoder_of,
    encoder_settings,
    load_encoder,
)
from tests.lit_modules.linking_data import CHARACTERS, TinyLinking
from tests.lit_modules.tiny_encoder import tiny_encoder


def batch_of(**arguments: Any) -> dict[str, Any]:
    data = TinyLinking(**arguments)
    return data.training_batch(data.texts[:4])


def test_characters_plus_projected_words_with_the_matches() -> None:
    reader, batch = RecurrentReader(8, 4, 0.0), batch_of(words=True)
    reader.resize(len(CHARACTERS), 3)
    reader.word_vectors = torch.randn(3, 3)
    embedded = reader.characters.weight[batch["characters"]] + reader.word_vectors[batch["words"]] @ reader.words.T
    expected = reader.texts(torch.cat([embedded, batch["matches"]], dim=2), batch["mask"])
    assert torch.equal(reader.read_texts(batch), expected)
    rows = batch["rows"]
    d, mask = reader.read_descriptions(rows)
    assert torch.equal(mask, rows["entity_mask"])
    embedded = reader.characters(rows["entity_characters"]) + reader.word_vectors[rows["entity_words"]] @ reader.words.T
    assert torch.equal(d, reader.descriptions(embedded, mask))


def test_words_are_projected_but_neither_trained_nor_saved() -> None:
    reader = RecurrentReader(8, 4, 0.0)
    reader.resize(5, 3)
    assert reader.state_dict()["words"].shape == (8, 3)
    assert not any("word_vectors" in name for name in reader.state_dict())
    assert not list(reader.buffers())
    assert reader.words.requires_grad
    reader.resize(5, 0)
    assert not reader.words.requires_grad


def test_dropout_is_of_the_embeddings() -> None:
    reader, batch = RecurrentReader(8, 4, 0.5), batch_of()
    reader.resize(len(CHARACTERS), 0)
    assert not torch.equal(reader.read_texts(batch), reader.read_texts(batch))
    reader.eval()
    assert torch.equal(reader.read_texts(batch), reader.read_texts(batch))


def test_batches_that_do_not_fit() -> None:
    reader = RecurrentReader(8, 4, 0.0)
    with pytest.raises(ValueError, match="knows no characters yet: train it, load a checkpoint, or set"):
        reader.read_texts(batch_of())
    reader.resize(len(CHARACTERS), 5)
    with pytest.raises(ValueError, match=r"word vectors of 5 numbers .* the data have 0: set data.word_vectors"):
        reader.read_texts(batch_of())
    reader.resize(len(CHARACTERS), 0)
    with pytest.raises(
        ValueError, match=r"split into pieces for an encoder: set model\.encoder, or no data\.tokenizer"
    ):
        reader.read_descriptions(batch_of(pieces=True)["rows"])


# ---- Pretrained ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_encoder(tmp_path / "bert")


def test_characters_take_the_state_of_their_piece(folder: Path) -> None:
    reader, batch = PretrainedReader(load_encoder(str(folder)), 6, 0.0), batch_of(pieces=True)
    reader.eval()
    read = reader.read_texts(batch)
    states = reader.model(input_ids=batch["pieces"], attention_mask=batch["piece_mask"].long()).last_hidden_state
    for text, length in enumerate(batch["mask"].sum(dim=1).tolist()):
        for place in range(length):
            x = torch.cat([states[text, 1 + place // 2], batch["matches"][text, place]])
            torch.testing.assert_close(read[text, place], reader.texts(x))
        assert not read[text, length:].any()
    d, mask = reader.read_descriptions(batch["rows"])
    assert torch.equal(mask, batch["rows"]["entity_piece_mask"])
    assert d.shape == (*mask.shape, 6)


@pytest.mark.parametrize("width", [6, 16, 20])
def test_what_a_pretrained_network_has_close_together_starts_close_together(folder: Path, width: int) -> None:
    """Texts and descriptions are projected alike; no angle changes where the projection is wide enough."""
    reader = PretrainedReader(load_encoder(str(folder)), width, 0.0)
    state, other = torch.randn(2, 16)
    text, description = reader.texts(torch.cat([state, torch.zeros(2)])), reader.descriptions(other)
    torch.testing.assert_close(reader.descriptions(state), text)
    if width >= 16:
        torch.testing.assert_close(text @ description, state @ other)


def test_padding_makes_no_difference_to_a_pretrained_reader(folder: Path) -> None:
    data = TinyLinking(pieces=True)
    reader = PretrainedReader(load_encoder(str(folder)), 6, 0.0)
    reader.eval()
    short, long = sorted(data.texts[:8], key=lambda text: len(text.text))[::7]
    alone, together = (reader.read_texts(data.encode(texts)) for texts in ([short], [short, long]))
    torch.testing.assert_close(together[0, : alone.shape[1]], alone[0])


def test_a_pretrained_network_comes_in_training_mode_without_what_is_not_used(folder: Path) -> None:
    model = load_encoder(str(folder))
    assert model.training
    # The layer over [CLS], which is not used.
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"pooler.dense.weight", "pooler.dense.bias"}
    assert all(p.grad is None for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    again = encoder_of(encoder_settings(model))
    assert again.state_dict().keys() == model.state_dict().keys()
    again.load_state_dict(model.state_dict())


def test_an_encoder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="nothing' is no transformers model that can be loaded: "):
        load_encoder(str(tmp_path / "nothing"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match="is no transformers model that can be loaded: "):
        load_encoder(str(tmp_path))


def test_batches_that_do_not_fit_an_encoder(folder: Path) -> None:
    reader = PretrainedReader(load_encoder(str(folder)), 6, 0.0)
    with pytest.raises(ValueError, match=r"reads pieces, which the data has not: set data\.tokenizer"):
        reader.read_texts(batch_of())
    rows = batch_of(pieces=True)["rows"]
    rows |= {"entity_pieces": torch.ones(1, 65).long(), "entity_piece_mask": torch.ones(1, 65).bool()}
    with pytest.raises(ValueError, match=r"has 65 pieces, the encoder takes 64: set data\.max_length or"):
        reader.read_descriptions(rows)


@pytest.mark.data
def test_a_small_chinese_network(shared_data: Path) -> None:
    model = load_encoder(str(shared_data.parent / "models" / "roformer-sim-small"))
    reader = PretrainedReader(model, 6, 0.1)
    states, _ = reader.read_descriptions(
        {
            "entity_pieces": torch.tensor([[101, 3683, 102, 0]]),
            "entity_piece_mask": torch.tensor([[True] * 3 + [False]]),
        }
    )
    assert states.shape == (1, 4, 6)
    states.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
