"""A BERT of a few thousand random weights."""

from pathlib import Path

import torch

from tests.lit_modules.linking_data import CHARACTERS


def tiny_encoder(folder: Path, dropout: float = 0.1, vocabulary: int = len(CHARACTERS), positions: int = 64) -> Path:
    """Writes one to `folder` and returns that."""
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    dropping = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=vocabulary, max_position_embeddings=positions, **sizes, **dropping)
    BertModel(config).save_pretrained(folder)
    return folder
