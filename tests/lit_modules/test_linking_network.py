"""The linking network: its sizes, and what it looks at."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_modules.parts.linking_network import FEATURES, LinkingNetwork, Similarity
from lit_modules.parts.readers import PretrainedReader, RecurrentReader, load_encoder
from tests.lit_modules.linking_data import CHARACTERS, TinyLinking
from tests.lit_modules.tiny_encoder import tiny_encoder


def network(features: tuple[str, ...] = FEATURES, dim: int = 8, hidden: int = 6) -> LinkingNetwork:
    reader = RecurrentReader(dim, hidden, 0.0)
    reader.resize(len(CHARACTERS), 0)
    return LinkingNetwork(reader, hidden=hidden, heads=2, head_dim=3, features=features)


def logits(made: LinkingNetwork, batch: dict[str, Any], **changed: torch.Tensor) -> torch.Tensor:
    return made.link(made.read(batch), batch["mask"], batch["rows"] | changed)


@pytest.fixture
def batch() -> dict[str, Any]:
    data = TinyLinking()
    return data.training_batch(data.texts[:5])


def test_article_s_sizes() -> None:
    reader = RecurrentReader(128, 64, 0.2)
    reader.resize(4000, 0)
    made = LinkingNetwork(reader, hidden=64, heads=8, head_dim=16, features=FEATURES)
    shapes = {name: tuple(p.shape) for name, p in made.named_parameters()}
    # Characters and both matches in; two directions out, of which a kernel of 3 makes the pointers.
    assert shapes["reader.texts.lstm.weight_ih_l0"] == (4 * 64, 128 + 2)
    assert shapes["around.weight"] == (128, 128, 3)
    # The text's encoding, the mention's place, three features.
    assert shapes["query.lstm.weight_ih_l0"] == (4 * 64, 128 + 1 + 3)
    assert shapes["reader.descriptions.lstm.weight_ih_l0"] == (4 * 64, 128)
    # Both attentions' maxima and the mention's mean.
    assert shapes["dense.weight"] == (128, 3 * 128)
    assert shapes["linked.weight"] == (1, 128)


def test_padding_makes_no_difference(batch: dict[str, Any]) -> None:
    made, data = network(), TinyLinking()
    starts, ends = made.spans(made.read(batch))
    linked = logits(made, batch)
    for number, text in enumerate(data.texts[:5]):
        alone = data.training_batch([text])
        length = len(text.text)
        for whole, part in zip((starts, ends), made.spans(made.read(alone)), strict=True):
            torch.testing.assert_close(whole[number, :length], part[0])
        torch.testing.assert_close(linked[batch["rows"]["text_of"] == number], logits(made, alone))


def test_rows_that_share_a_description(batch: dict[str, Any]) -> None:
    """The scores are those of rows that have a copy each."""
    made, data = network(), TinyLinking(chunk=10**6)
    asked = [
        (number, m.start, m.end, np.array([0, 1, 2])) for number, t in enumerate(data.texts[:5]) for m in t.mentions
    ]
    ((rows, _),) = data.rows(data.texts[:5], asked, batch["mask"].shape[1])
    of = rows["entity_of"]
    assert len(rows["entity_mask"]) == 3
    assert len(of) == 30
    copies = {name: rows[name][of] for name in ("entity_characters", "entity_mask")}
    apart = logits(made, batch, **rows | copies | {"entity_of": torch.arange(len(of))})
    torch.testing.assert_close(logits(made, batch, **rows), apart, atol=1e-6, rtol=0)


@pytest.mark.parametrize("features", [(), ("character",), ("object", "word")])
def test_features_that_are_left_out_change_nothing(batch: dict[str, Any], features: tuple[str, ...]) -> None:
    made = network(features)
    before = logits(made, batch)
    for column, name in enumerate(FEATURES):
        changed = batch["rows"]["features"].clone()
        changed[..., column] = 1 - changed[..., column]
        assert torch.equal(before, logits(made, batch, features=changed)) == (name not in features)


def test_linking_looks_at_the_mention_and_at_the_description(batch: dict[str, Any]) -> None:
    made, rows = network(), batch["rows"]
    before = logits(made, batch)
    assert not torch.equal(before, logits(made, batch, mention=rows["mention"].roll(1, dims=1)))
    other = rows["entity_characters"].roll(1, dims=0), rows["entity_mask"].roll(1, dims=0)
    assert not torch.equal(before, logits(made, batch, entity_characters=other[0], entity_mask=other[1]))
    assert not torch.equal(before, logits(made, batch, entity_of=rows["entity_of"].roll(1)))
    # Not at another row.
    first = {name: values[:1] for name, values in rows.items()}
    torch.testing.assert_close(logits(made, batch, **first)[0], before[0])


def test_all_parameters_get_a_gradient(batch: dict[str, Any]) -> None:
    """With rows, and, as DDP needs it, without."""
    made = network()
    for linking in (logits(made, batch).sum(), made.untouched()):
        made.zero_grad()
        starts, ends = made.spans(made.read(batch))
        (starts.sum() + ends.sum() + linking).backward()
        assert all(p.grad is not None for p in made.parameters() if p.requires_grad)


def test_an_entity_without_a_description(batch: dict[str, Any]) -> None:
    """It may have no name either; its score is a number, and the others' scores are as they were."""
    made = network()
    before = logits(made, batch)
    mask = batch["rows"]["entity_mask"].clone()
    mask[0] = False
    scores = logits(made, batch, entity_mask=mask)
    torch.testing.assert_close(scores[1:], before[1:])
    assert scores.abs().max() < 10
    scores.sum().backward()
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)


# ---- Pretrained readers ----


def test_similarity_by_its_formula() -> None:
    x, y = torch.randn(2, 4, 3), torch.randn(2, 5, 3)
    x_mask, y_mask = torch.tensor([[True] * 4, [True, True, False, False]]), torch.tensor([[True] * 5, [True] * 5])
    similarity = Similarity()
    with torch.no_grad():
        similarity.scale.fill_(2), similarity.offset.fill_(0.25)
    means = torch.stack([x[0].mean(0), x[1, :2].mean(0)]), y.mean(1)
    cosine = (means[0] * means[1]).sum(1) / means[0].norm(dim=1) / means[1].norm(dim=1)
    torch.testing.assert_close(similarity(x, x_mask, y, y_mask), 10 * (2 * cosine + 0.25))


def test_a_pretrained_reader_tells_before_any_training_what_is_alike(tmp_path: Path) -> None:
    """Of descriptions, the one that is the text itself has the highest score."""
    data = TinyLinking(pieces=True)
    reader = PretrainedReader(load_encoder(str(tiny_encoder(tmp_path / "bert"))), 16, 0.0)
    made = LinkingNetwork(reader, hidden=8, heads=2, head_dim=3, features=FEATURES).eval()
    assert made.similarity is not None
    batch = data.training_batch(data.texts[:1])
    rows, pieces = batch["rows"], batch["pieces"]
    described = torch.cat([pieces, pieces.flip(1), torch.full_like(pieces, int(pieces[0, 1]))])
    count = {"entity_of": torch.arange(3), "text_of": torch.zeros(3, dtype=torch.int64)}
    copies = {name: rows[name][:1].expand(3, *rows[name].shape[1:]) for name in ("mention", "features")}
    masks = {"entity_pieces": described, "entity_piece_mask": torch.ones_like(described, dtype=torch.bool)}
    with torch.no_grad():
        made.linked.weight.zero_()
        scores = logits(made, batch, **count, **copies, **masks)
    assert scores.argmax() == 0


def test_all_parameters_of_a_pretrained_reader_s_network_get_a_gradient(tmp_path: Path) -> None:
    data = TinyLinking(pieces=True)
    reader = PretrainedReader(load_encoder(str(tiny_encoder(tmp_path / "bert"))), 16, 0.0)
    made = LinkingNetwork(reader, hidden=8, heads=2, head_dim=3, features=FEATURES)
    batch = data.training_batch(data.texts[:5])
    for linking in (logits(made, batch).sum(), made.untouched()):
        made.zero_grad()
        starts, ends = made.spans(made.read(batch))
        (starts.sum() + ends.sum() + linking).backward()
        assert all(p.grad is not None for p in made.parameters() if p.requires_grad)
