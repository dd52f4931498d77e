"""A BERT that reads a passage and writes what follows it: one network with UniLM's mask and an output per token.

Shapes: B sequences of S tokens, H numbers of a hidden state, V tokens of the vocabulary.

Source: article 8.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from lit_modules.parts.readers import EncoderError, encoder_settings
from lit_modules.parts.unilm import positions_of, unilm_mask
from lit_modules.parts.unilm_checkpoints import family, load_checkpoint
from lit_modules.parts.unilm_decoder import KeyValueCache, PrefixDecoder
from lit_modules.parts.vocabulary import check_rows, embedding_of, rows_of


class UniLMNetwork(nn.Module):
    """A transformers BertModel or RoFormerModel under UniLM's mask, with a language model's output.

    Made by :meth:`scratch`, :meth:`pretrained` or :meth:`of_settings`; in training mode and in float32.

    Args:
        model: the network, without a pooler.
        transform: what its states go through before they are compared with tokens; none if that is nothing.
        bias: of the outputs, (V,).
        output: the output's matrix (V, E); none where the embeddings are used.

    Attributes:
        model: the network.
    """

    def __init__(self, model: nn.Module, transform: nn.Module | None, bias: Tensor, output: Tensor | None) -> None:
        super().__init__()
        self.model, self.transform = model, transform
        self.bias = nn.Parameter(bias.detach().clone())
        self.output = None if output is None else nn.Parameter(output.detach().clone())
        self.train()

    @classmethod
    def scratch(
        cls,
        vocabulary: int,
        hidden: int,
        layers: int,
        heads: int,
        dropout: float,
        max_positions: int,
        tied: bool,
        attention: str = "sdpa",
    ) -> "UniLMNetwork":
        """A BERT with random weights, token 0 for padding.

        Args:
            vocabulary: number of tokens V.
            hidden: numbers of a hidden state; four times as many between a layer's two matrices.
            layers: of the network.
            heads: of each attention.
            dropout: of states and attention.
            max_positions: longest sequence, in tokens.
            tied: whether the output uses the embeddings' matrix.
            attention: how transformers computes it, "sdpa" or "eager".

        Raises:
            ValueError: `hidden` is no multiple of `heads`.
        """
        if hidden % heads:
            raise ValueError(f"hidden={hidden} must be a multiple of heads={heads}")
        config = {
            "model_type": "bert",
            "vocab_size": vocabulary,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * hidden,
            "max_position_embeddings": max_positions,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        }
        return cls.of_settings({"config": config, "tied": tied, "transform": True, "attention": attention})

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> "UniLMNetwork":
        """A network with random weights.

        Args:
            settings: what :meth:`settings` gave.
        """
        given = dict(settings["config"])
        config_class, base, with_head = family(given.pop("model_type"))
        config = config_class(**given)
        whole = with_head(config) if settings["transform"] else base(config)
        network = cls._around(whole, settings["tied"])
        network._model.set_attn_implementation(settings["attention"])
        return network

    @classmethod
    def pretrained(cls, name: str, tied: bool, kept: Sequence[int] | None = None) -> "UniLMNetwork":
        """The network of a checkpoint, with its output layers if it has any, else comparing states with embeddings.

        Args:
            name: of a transformers checkpoint of BERT or RoFormer, or its folder.
            tied: whether the output uses the embeddings' matrix, rather than one of its own that starts as that.
            kept: numbers of the tokens to keep, in their new order, the first for padding; all by default.

        Raises:
            EncoderError: there is none, it can't be had, or it can't be used.
            ValueError: `kept` doesn't fit its vocabulary.
        """
        network = cls._around(load_checkpoint(name), tied)
        if kept is not None:
            network.keep(kept)
        return network

    @classmethod
    def _around(cls, whole: Any, tied: bool) -> "UniLMNetwork":
        """Around a network with or without output layers."""
        model = whole.base_model
        # A layer over [CLS], which isn't used.
        model.pooler = None
        table = model.get_input_embeddings().weight
        if whole is model:
            if table.shape[1] != model.config.hidden_size:
                raise EncoderError("a network whose embeddings are narrower than its states needs its output layers")
            return cls(model, None, table.new_zeros(len(table)), None if tied else table)
        head = whole.cls.predictions
        if tied and head.decoder.weight is not table:
            raise EncoderError("the network's output has a matrix of its own: set tied to false")
        return cls(model, head.transform, head.decoder.bias, None if tied else head.decoder.weight)

    def keep(self, kept: Sequence[int]) -> None:
        """Drop all tokens but those of the numbers `kept`, which are numbered anew in that order."""
        table: Any = self._model.get_input_embeddings()
        check_rows(kept, len(table.weight))
        self._model.set_input_embeddings(embedding_of(table, kept))
        self._model.config.update({"vocab_size": len(kept), "pad_token_id": 0})
        self.bias = rows_of(self.bias, kept)
        if self.output is not None:
            self.output = rows_of(self.output, kept)

    def settings(self) -> dict[str, Any]:
        """What :meth:`of_settings` takes to build a network of this one's sizes, JSON-plain."""
        return {
            "config": encoder_settings(self.model),
            "tied": self.output is None,
            "transform": self.transform is not None,
            "attention": self._model.config._attn_implementation,
        }

    @property
    def vocabulary(self) -> int:
        """Number of tokens V."""
        return len(self.bias)

    @property
    def max_positions(self) -> int:
        """The longest sequence in tokens."""
        return int(self._model.config.max_position_embeddings)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.bias.dtype

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's, in their order."""
        layers: nn.ModuleList = self._model.encoder.layer
        return layers

    @property
    def _model(self) -> Any:
        return self.model

    # ---- Computing ----

    def forward(self, tokens: Tensor, segments: Tensor, mask: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Logits of the token after each.

        Args:
            tokens: (B, S).
            segments: (B, S), 0 for the passage and 1 for what follows it.
            mask: bool (B, S), whether a token is real; padding may stand anywhere.
            wanted: bool (B, S), after which tokens logits are wanted; the vocabulary makes them dear.

        Returns:
            (B, S, V), or (N, V) of the N wanted ones, row by row.

        Raises:
            ValueError: a sequence is longer than the network takes.
        """
        positions = positions_of(mask)
        self.check_positions(positions, mask.shape[1])
        states = self.states(tokens, segments, positions, unilm_mask(mask, segments, self.dtype))
        return self.project(states if wanted is None else states[wanted])

    def states(
        self, tokens: Tensor, segments: Tensor, positions: Tensor, mask: Tensor, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Hidden states (B, S, H) of the last layer.

        Args:
            tokens: (B, S).
            segments: (B, S).
            positions: (B, S).
            mask: (B, 1, S, C + S), added to attention scores.
            cache: has keys and values of C tokens before these and takes those of these.
        """
        if self._model.config.model_type == "roformer":
            return self._roformer_states(tokens, segments, positions, mask, cache)
        output = self._model(
            input_ids=tokens,
            token_type_ids=segments,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
        )
        states: Tensor = output.last_hidden_state
        return states

    def _roformer_states(
        self, tokens: Tensor, segments: Tensor, positions: Tensor, mask: Tensor, cache: KeyValueCache | None
    ) -> Tensor:
        # Layer by layer, because RoFormerModel counts positions itself, the same for all sequences.
        model = self._model
        x: Tensor = model.embeddings(input_ids=tokens, token_type_ids=segments)
        if hasattr(model, "embeddings_project"):
            x = model.embeddings_project(x)
        angles = embedding(positions, model.encoder.embed_positions.weight)[:, None]
        for layer in model.encoder.layer:
            x = layer(x, mask, angles, past_key_values=cache)[0]
        return x

    def project(self, states: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., H)."""
        table = self._model.get_input_embeddings().weight if self.output is None else self.output
        return linear(states if self.transform is None else self.transform(states), table, self.bias)

    def check_positions(self, positions: Tensor, bound: int) -> None:
        """See that the network has these positions.

        Args:
            positions: whole numbers from 0.
            bound: what they are certainly below, so that the device is asked only where it matters.

        Raises:
            ValueError: it hasn't.
        """
        if bound > self.max_positions and (longest := int(positions.max()) + 1) > self.max_positions:
            raise ValueError(
                f"a sequence has {longest} tokens, the network takes {self.max_positions}: lower data.max_passage or"
                " model.max_question"
            )

    def decoder(self, passage: Tensor, mask: Tensor) -> PrefixDecoder:
        """What writes after passages (B, P), of which bool `mask` (B, P) says which tokens are real; they come first.

        Raises:
            ValueError: the network is in training mode, or a passage is longer than it takes.
        """
        return PrefixDecoder(self, passage, mask)
