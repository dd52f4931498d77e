"""Canaries: they fail when an upgrade of transformers changes what the UniLM network works around."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lit_modules.parts.unilm import additive

PASSAGE = 4


def bert(attention: str) -> torch.nn.Module:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=30, **sizes), add_pooling_layer=False).eval()
    model.set_attn_implementation(attention)
    return model


def unilm() -> Tensor:
    """Which of eight tokens sees which, (1, 8, 8); the first four are the passage."""
    place = torch.arange(8)
    return ((place < PASSAGE) | (place[None] <= place[:, None]))[None]


@torch.no_grad()
def leak(attention: str, mask: Tensor) -> float:
    """How much a token's state tells of the next one of the target."""
    model, tokens = bert(attention), torch.arange(1, 9)[None]
    other = tokens.clone()
    other[0, -1] = 20
    one, two = (model(input_ids=x, attention_mask=mask).last_hidden_state[0, :-1] for x in (tokens, other))
    return (one - two).abs().max().item()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_additive_mask_of_four_dimensions_is_right(attention: str) -> None:
    assert leak(attention, additive(unilm(), torch.float32)) == 0


def test_other_masks_leak_or_are_refused() -> None:
    """If this fails, there may be a mask that is cheaper than `additive`."""
    assert leak("eager", unilm()[:, None]) > 1e-4
    assert leak("eager", unilm()[:, None].float()) > 1e-4
    for attention in ("sdpa", "eager"):
        with pytest.raises(RuntimeError, match="expand"):
            leak(attention, unilm())


def test_from_pretrained_gives_evaluation_mode_and_the_type_that_was_saved(tmp_path: Path) -> None:
    from transformers import BertModel

    bert("sdpa").train().to(torch.bfloat16).save_pretrained(tmp_path)
    model = BertModel.from_pretrained(tmp_path, add_pooling_layer=False)
    assert not model.training
    assert model.dtype == torch.bfloat16


def test_a_tokenizer_of_a_vocabulary_file_ignores_it(tmp_path: Path) -> None:
    """If this fails, a vocabulary's path would do where a folder has to be given."""
    from transformers import BertTokenizer

    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nword\n")
    assert 5 not in BertTokenizer(vocab_file=str(path))("word")["input_ids"]
    assert 5 in BertTokenizer.from_pretrained(tmp_path)("word")["input_ids"]


@torch.no_grad()
def test_a_roformer_counts_positions_itself() -> None:
    """If this fails, its layers no longer have to be called one by one."""
    from transformers import RoFormerConfig, RoFormerModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    model, tokens = RoFormerModel(RoFormerConfig(vocab_size=30, **sizes)).eval(), torch.arange(1, 9)[None]
    mask = torch.ones_like(tokens)
    one = model(input_ids=tokens, attention_mask=mask).last_hidden_state
    two = model(input_ids=tokens, attention_mask=mask, position_ids=3 * torch.arange(8)[None]).last_hidden_state
    assert torch.equal(one, two)
