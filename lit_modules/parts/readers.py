"""What reads texts and descriptions of entities: an LSTM over characters, or a pretrained network over its own pieces.

Both make the same of a batch: texts become (B, L, width), a vector for each character, and descriptions
(R, M, width), a vector for each of whatever they consist of.

Source: article 6, steps 3 and 4.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lit_modules.parts.recurrent import BidirectionalLSTM

Read = tuple[Tensor, Tensor]


class EncoderError(ValueError):
    """A transformers model that can't be loaded."""


class RecurrentReader(nn.Module):
    """Embeddings of characters plus projected vectors of the words they lie in, read by an LSTM each.

    Args:
        dim: numbers of a character's embedding.
        hidden: numbers of each direction of the LSTMs.
        dropout: of the embeddings.

    Attributes:
        characters: the embeddings, (V, dim), the first for padding.
        words: the projection of word vectors, (dim, d): d is 0 where there are none.
        word_vectors: the table (W, d) that is projected, the first row for no word. It is neither trained nor saved.
    """

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dim, self.width = dim, 2 * hidden
        self.dropout = nn.Dropout(dropout)
        self.texts, self.descriptions = BidirectionalLSTM(dim + 2, hidden), BidirectionalLSTM(dim, hidden)
        self._given: Tensor | None = None
        self.use_word_vectors(None)
        self.resize(0, 0)

    def resize(self, characters: int, word_dim: int) -> None:
        """Make tables for V characters, of which number 0 is padding, and for word vectors of d numbers."""
        device = next(self.texts.parameters()).device
        table = 0.05 * torch.randn(characters, self.dim, device=device)
        table[:1] = 0
        self.characters = nn.Embedding.from_pretrained(table, freeze=False, padding_idx=0 if characters else None)
        projection = torch.randn(self.dim, word_dim, device=device) * max(word_dim, 1) ** -0.5
        self.words = nn.Parameter(projection, requires_grad=word_dim > 0)

    def use_word_vectors(self, vectors: Tensor | None) -> None:
        """Take a table (W, d) of word vectors, or none."""
        if self._given is None or vectors is not self._given:
            # A plain attribute: as a buffer, DDP would send it around in each step.
            self.word_vectors = torch.zeros(0, 0) if vectors is None else vectors
            self._given = vectors

    def read_texts(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(B, L, width) of a batch with characters, mask and matches, and words where there are word vectors."""
        x = self._embedded(batch, "")
        return self.texts(torch.cat([x, batch["matches"].to(x.dtype)], dim=2), batch["mask"])

    def read_descriptions(self, rows: Mapping[str, Tensor]) -> Read:
        """(R, M, width) and a mask (R, M) of rows with entity_characters, entity_mask and perhaps entity_words."""
        x, mask = self._embedded(rows, "entity_"), rows["entity_mask"]
        return self.descriptions(x, mask), mask

    def _embedded(self, batch: Mapping[str, Tensor], prefix: str) -> Tensor:
        if f"{prefix}characters" not in batch:
            raise ValueError("the data is split into pieces for an encoder: set model.encoder, or no data.tokenizer")
        if not self.characters.num_embeddings:
            raise ValueError(
                "the network knows no characters yet: train it, load a checkpoint, or set model.characters"
            )
        if self.words.shape[1] != self.word_vectors.shape[1]:
            raise ValueError(
                f"the network was made for word vectors of {self.words.shape[1]} numbers (0 for none), those of the"
                f" data have {self.word_vectors.shape[1]}: set data.word_vectors to what it was trained with"
            )
        x = self.characters(batch[f"{prefix}characters"])
        if self.words.shape[1]:
            # Once: from then on it is there.
            self.word_vectors = self.word_vectors.to(x.device)
            x = x + self.word_vectors[batch[f"{prefix}words"]].to(self.words.dtype) @ self.words.T
        return self.dropout(x)


class PretrainedReader(nn.Module):
    """A transformers model for both, whose hidden states are projected; characters take the state of their piece.

    Both projections start as the same orthogonal one, so that what the model has close together stays so.

    Args:
        model: the network, as :func:`load_encoder` or :func:`encoder_of` gives it.
        width: numbers that its states are projected to.
        dropout: of the states.
    """

    def __init__(self, model: nn.Module, width: int, dropout: float) -> None:
        super().__init__()
        self.model, self.width = model, width
        self.dropout = nn.Dropout(dropout)
        states = self._config.hidden_size
        self.texts, self.descriptions = nn.Linear(states + 2, width), nn.Linear(states, width)
        nn.init.orthogonal_(self.descriptions.weight)
        nn.init.zeros_(self.descriptions.bias)
        with torch.no_grad():
            self.texts.weight[:, :states] = self.descriptions.weight
            self.texts.bias.zero_()

    @property
    def _config(self) -> Any:
        return self.model.config

    def read_texts(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(B, L, width) of a batch with pieces, piece_mask, piece_of and matches."""
        if "pieces" not in batch:
            raise ValueError("an encoder reads pieces, which the data has not: set data.tokenizer to the encoder's")
        states = self._states(batch["pieces"], batch["piece_mask"])
        of = batch["piece_of"][..., None].expand(-1, -1, states.shape[2])
        x = torch.cat([states.gather(1, of), batch["matches"].to(states.dtype)], dim=2)
        return self.texts(x) * batch["mask"][..., None]

    def read_descriptions(self, rows: Mapping[str, Tensor]) -> Read:
        """(R, M, width) and a mask (R, M) of rows with entity_pieces and entity_piece_mask."""
        mask = rows["entity_piece_mask"]
        return self.descriptions(self._states(rows["entity_pieces"], mask)), mask

    def _states(self, pieces: Tensor, mask: Tensor) -> Tensor:
        longest = getattr(self._config, "max_position_embeddings", pieces.shape[1])
        if pieces.shape[1] > longest:
            raise ValueError(
                f"a text or description has {pieces.shape[1]} pieces, the encoder takes {longest}: set"
                " data.max_length or data.max_description"
            )
        # Texts to link come in all sizes: evaluation would set the compiler off again and again.
        model = self.model if self.training else self.model.forward
        return self.dropout(model(input_ids=pieces, attention_mask=mask.long()).last_hidden_state)


def load_encoder(name: str) -> nn.Module:
    """The transformers model of that name or in that folder, in training mode, its weights in float32.

    Raises:
        EncoderError: there is none, or it can't be had.
    """
    from transformers import AutoModel

    try:
        return _trainable(AutoModel.from_pretrained(name, dtype=torch.float32))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise EncoderError(f"encoder={name!r} is no transformers model that can be loaded: {reason}") from error


def encoder_of(settings: Mapping[str, Any]) -> nn.Module:
    """A model with random weights.

    Args:
        settings: what :func:`encoder_settings` gave.
    """
    from transformers import AutoConfig, AutoModel

    return _trainable(AutoModel.from_config(AutoConfig.for_model(**settings)))


def encoder_settings(model: nn.Module) -> dict[str, Any]:
    """The configuration of a transformers model, JSON-plain."""
    config: Any = model.config
    settings: dict[str, Any] = config.to_dict()
    # Types of torch, which a checkpoint can't hold.
    return {name: value for name, value in settings.items() if name not in ("dtype", "torch_dtype")}


def _trainable(model: Any) -> nn.Module:
    """In training mode, with those parameters frozen that get no gradient: DDP would wait for it."""
    # from_pretrained gives it in evaluation mode.
    model.train()
    tokens = torch.zeros(1, 2, dtype=torch.int64)
    # Without a mask transformers warns of padding.
    model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state.sum().backward()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    model.zero_grad()
    trainable: nn.Module = model
    return trainable
