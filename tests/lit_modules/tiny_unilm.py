"""UniLM networks of a few thousand random weights, of each family and attention."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lit_modules.parts.unilm_network import UniLMNetwork

VOCABULARY = 40
KINDS = ("bert sdpa", "bert eager", "roformer")
each_kind = pytest.mark.parametrize("kind", KINDS)


def tiny_network(kind: str, tied: bool = True, seed: int = 0) -> UniLMNetwork:
    """In evaluation mode; weights far from 0, so that a leak shows."""
    torch.manual_seed(seed)
    if kind == "roformer":
        config = {"model_type": "roformer"} | sizes(VOCABULARY)
        network = UniLMNetwork.of_settings({"config": config, "tied": tied, "transform": True, "attention": "eager"})
    else:
        network = UniLMNetwork.scratch(VOCABULARY, 16, 2, 2, 0.1, 64, tied, kind.split()[1])
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and "LayerNorm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


def sizes(vocabulary: int) -> dict[str, int]:
    """Of a transformers configuration."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    }


def tiny_checkpoint(folder: Path, kind: str, with_head: bool) -> Path:
    """Writes a checkpoint of random weights to `folder` and returns that."""
    import transformers

    name = {"bert": "Bert", "roformer": "RoFormer"}[kind]
    config = getattr(transformers, f"{name}Config")(**sizes(VOCABULARY))
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}{'ForMaskedLM' if with_head else 'Model'}")(config)
    if with_head:
        torch.nn.init.normal_(model.cls.predictions.bias)
    model.save_pretrained(folder)
    return folder


def passages(*lengths: int) -> tuple[Tensor, Tensor]:
    """Random passages of these numbers of tokens, and which of their tokens are real."""
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return torch.randint(5, VOCABULARY, mask.shape) * mask, mask
