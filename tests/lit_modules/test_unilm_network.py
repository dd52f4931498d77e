"""A BERT under UniLM's mask: nothing leaks, padding makes no difference, and it can be built again."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lit_modules.parts.readers import EncoderError
from lit_modules.parts.unilm_network import UniLMNetwork
from tests.lit_modules.tiny_unilm import KINDS, VOCABULARY, each_kind, passages, sizes, tiny_checkpoint, tiny_network

PASSAGE, TARGET = 6, 5


def sequences() -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, segments and mask of three whole ones."""
    tokens = torch.randint(5, VOCABULARY, (3, PASSAGE + TARGET))
    segments = torch.tensor([[0] * PASSAGE + [1] * TARGET] * 3)
    return tokens, segments, torch.ones_like(tokens).bool()


# ---- The mask at work ----


@torch.no_grad()
@each_kind
def test_nothing_leaks(kind: str) -> None:
    network, (tokens, segments, mask) = tiny_network(kind), sequences()
    before = network(tokens, segments, mask)
    for place in range(PASSAGE + TARGET):
        other = tokens.clone()
        other[:, place] = (tokens[:, place] - 5 + 1) % (VOCABULARY - 5) + 5
        changed = (network(other, segments, mask) - before).abs().amax(dim=2) > 1e-4
        # A token of the passage is seen by all, one of the target by itself and those after it.
        seen = torch.arange(PASSAGE + TARGET) >= (0 if place < PASSAGE else place)
        assert torch.equal(changed, seen.expand(3, -1)), place


@torch.no_grad()
@each_kind
def test_padding_and_the_rest_of_the_batch_make_no_difference(kind: str) -> None:
    network = tiny_network(kind)
    parts = [passages(6, 3, 1), passages(2, 4, 3), passages(3, 0, 5)]
    tokens, mask = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    segments = torch.cat([torch.full_like(part[0], min(number, 1)) for number, part in enumerate(parts)], dim=1)
    # Padding is whatever it is.
    tokens = torch.where(mask, tokens, 7)
    together = network(tokens, segments, mask)
    for number, real in enumerate(mask):
        alone = network(tokens[number, real][None], segments[number, real][None], real[real][None])
        torch.testing.assert_close(together[number, real], alone[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_both_attentions_compute_the_same() -> None:
    batch = sequences()
    sdpa, eager = (tiny_network(f"bert {attention}")(*batch) for attention in ("sdpa", "eager"))
    torch.testing.assert_close(sdpa, eager, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_sequence_of_padding_makes_no_nan_in_half_precision() -> None:
    tokens, segments, mask = sequences()
    mask[1] = False
    for kind in KINDS:
        with torch.autocast("cpu", torch.bfloat16):
            assert tiny_network(kind)(tokens, segments, mask).isfinite().all()


@torch.no_grad()
@each_kind
def test_a_passage_alone_is_what_transformers_makes_of_it(kind: str) -> None:
    """Positions and segments are its own: a RoFormer's layers are called here one by one."""
    network, (tokens, segments, mask) = tiny_network(kind), sequences()
    expected = network.model(input_ids=tokens, token_type_ids=segments, attention_mask=mask.long()).last_hidden_state
    states = network.states(tokens, segments, torch.arange(tokens.shape[1]).expand(3, -1), torch.zeros(3, 1, 1, 1))
    torch.testing.assert_close(states, expected)


@torch.no_grad()
def test_logits_are_made_where_they_are_wanted() -> None:
    network, (tokens, segments, mask) = tiny_network("bert sdpa"), sequences()
    wanted = segments == 1
    torch.testing.assert_close(network(tokens, segments, mask, wanted), network(tokens, segments, mask)[wanted])


def test_a_sequence_of_more_tokens_than_positions() -> None:
    network, (tokens, mask) = tiny_network("bert sdpa"), passages(65, 3)
    with pytest.raises(ValueError, match=r"65 tokens, the network takes 64: lower data\.max_passage or model\.max_q"):
        network(tokens, torch.zeros_like(tokens), mask)
    # Padding takes no position.
    assert network(tokens[1:], torch.zeros_like(tokens[1:]), mask[1:]).isfinite().all()


@each_kind
@pytest.mark.parametrize("tied", [True, False])
def test_every_trained_weight_gets_a_gradient(kind: str, tied: bool) -> None:
    """DDP waits for those that get none."""
    network, batch = tiny_network(kind, tied), sequences()
    network(*batch).logsumexp(dim=2).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters() if parameter.requires_grad)


# ---- Built again ----


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
@each_kind
def test_settings_build_it_again(kind: str, tied: bool) -> None:
    network, batch = tiny_network(kind, tied), sequences()
    settings = network.settings()
    again = UniLMNetwork.of_settings(json.loads(json.dumps(settings)))
    assert again.training
    assert again.settings() == settings
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.eval()(*batch), network(*batch))


def test_a_network_from_scratch() -> None:
    network = UniLMNetwork.scratch(30, 12, 3, 2, 0.2, 50, tied=False)
    config = network.settings()["config"]
    assert (network.vocabulary, network.max_positions, network.training) == (30, 50, True)
    assert (config["num_hidden_layers"], config["intermediate_size"], config["hidden_dropout_prob"]) == (3, 48, 0.2)
    assert config["attention_probs_dropout_prob"] == 0.2
    assert torch.equal(network.output, network.model.embeddings.word_embeddings.weight)
    assert network.output is not network.model.embeddings.word_embeddings.weight
    with pytest.raises(ValueError, match="hidden=12 must be a multiple of heads=5"):
        UniLMNetwork.scratch(30, 12, 3, 5, 0.2, 50, tied=False)


# ---- Pretrained ----


def changed_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bert", "roformer"])
@pytest.mark.parametrize("tied", [True, False])
def test_output_layers_of_a_checkpoint_are_used(tmp_path: Path, kind: str, tied: bool) -> None:
    from transformers import AutoModelForMaskedLM

    folder = tiny_checkpoint(tmp_path, kind, with_head=True)
    network, (tokens, segments, mask) = UniLMNetwork.pretrained(str(folder), tied), sequences()
    assert network.training
    assert (network.output is None) == tied
    whole = AutoModelForMaskedLM.from_pretrained(folder).eval()
    passage = tokens[:, :PASSAGE]
    expected = whole(input_ids=passage, attention_mask=torch.ones_like(passage)).logits
    torch.testing.assert_close(network.eval()(tokens, segments, mask)[:, :PASSAGE], expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bert", "roformer"])
@pytest.mark.parametrize("tied", [True, False])
def test_without_output_layers_states_are_compared_with_embeddings(tmp_path: Path, kind: str, tied: bool) -> None:
    folder = tiny_checkpoint(tmp_path, kind, with_head=False)
    network, (tokens, _, _) = UniLMNetwork.pretrained(str(folder), tied).eval(), sequences()
    passage = tokens[:, :PASSAGE]
    states = network.model(input_ids=passage, attention_mask=torch.ones_like(passage)).last_hidden_state
    logits = network(passage, torch.zeros_like(passage), torch.ones_like(passage).bool())
    torch.testing.assert_close(logits, states @ network.model.embeddings.word_embeddings.weight.T)
    # BERT's layer over [CLS], which would get no gradient.
    assert not any("pooler" in name for name in network.state_dict())
    again = UniLMNetwork.of_settings(network.settings())
    again.load_state_dict(network.state_dict())


def test_a_checkpoint_comes_in_float32_in_training_mode(tmp_path: Path) -> None:
    from transformers import BertModel

    folder = tiny_checkpoint(tmp_path, "bert", with_head=False)
    BertModel.from_pretrained(folder).to(torch.bfloat16).save_pretrained(folder)
    network = UniLMNetwork.pretrained(str(folder), tied=True)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert all(module.training for module in network.modules())


def test_a_decoder_is_used_as_an_encoder(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path, "bert", with_head=True)
    changed_config(folder, is_decoder=True, add_cross_attention=True)
    network = UniLMNetwork.pretrained(str(folder), tied=True)
    assert not any("crossattention" in name for name in network.state_dict())
    assert not network.settings()["config"]["is_decoder"]


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("with_head", [True, False])
def test_kept_tokens_have_the_logits_that_they_had(tmp_path: Path, with_head: bool, tied: bool) -> None:
    folder = tiny_checkpoint(tmp_path, "bert", with_head)
    kept = [0, *range(4, VOCABULARY, 3), 2]
    whole, part = (UniLMNetwork.pretrained(str(folder), tied, keeping).eval() for keeping in (None, kept))
    assert part.vocabulary == len(kept)
    tokens, segments, mask = sequences()
    numbers = tokens % len(kept)
    assert torch.equal(
        part(numbers, segments, mask), whole(torch.tensor(kept)[numbers], segments, mask)[..., torch.tensor(kept)]
    )
    again = UniLMNetwork.of_settings(part.settings())
    again.load_state_dict(part.state_dict())


def test_checkpoints_that_can_not_be_used(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="nothing' is no BERT or RoFormer that can be loaded: "):
        UniLMNetwork.pretrained(str(tmp_path / "nothing"), tied=True)
    folder = tiny_checkpoint(tmp_path / "bert", "bert", with_head=False)

    def fails(message: str, **changes: object) -> None:
        changed = shutil.copytree(folder, tmp_path / "changed", dirs_exist_ok=True)
        changed_config(changed, **changes)
        with pytest.raises(EncoderError, match=message):
            UniLMNetwork.pretrained(str(changed), tied=True)

    fails("loaded: its model_type is 'albert', not bert or roformer", model_type="albert")
    # Code beside a checkpoint isn't run, nor asked about.
    fails("its model_type is 'mine'", model_type="mine", auto_map={"AutoConfig": "mine.Config"})
    fails("loaded: it has one segment, and passage and target take one each", type_vocab_size=1)
    fails(r"its weights lack cls\.predictions\.bias, .* \(6 in all\)", architectures=["BertForMaskedLM"])


def test_an_output_matrix_of_its_own_is_not_dropped_silently(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    BertForMaskedLM(BertConfig(**sizes(VOCABULARY), tie_word_embeddings=False)).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="output has a matrix of its own: set tied to false"):
        UniLMNetwork.pretrained(str(tmp_path), tied=True)
    network = UniLMNetwork.pretrained(str(tmp_path), tied=False)
    assert not torch.equal(network.output, network.model.embeddings.word_embeddings.weight)


@pytest.mark.data
def test_a_small_chinese_network(shared_data: Path) -> None:
    folder = str(shared_data.parent / "models" / "roformer-sim-small")
    network = UniLMNetwork.pretrained(folder, tied=True, kept=[0, 100, 101, 102, *range(200, 300)])
    assert (network.vocabulary, network.max_positions, network.transform) == (104, 512, None)
    tokens, segments, mask = sequences()
    network(tokens, segments, mask).logsumexp(dim=2).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters() if parameter.requires_grad)
