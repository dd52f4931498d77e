"""The linking network: its sizes, and what it looks at."""

from typing import Any

import numpy as np
import pytest
import torch

from lit_modules.parts.linking_network import FEATURES, LinkingNetwork
from lit_modules.parts.readers import RecurrentReader
from tests.lit_modules.linking_data import CHARACTERS, TinyLinking


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
