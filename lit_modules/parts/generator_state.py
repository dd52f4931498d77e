"""What a question-answer generator learns from its datamodule and keeps in its checkpoints."""

from typing import Any

import torch
from torch import Tensor

from lit_modules.parts import sharding
from lit_modules.parts.adversarial import check_name
from lit_modules.parts.data_state import DataState, check_same
from lit_modules.parts.qa_tokenizer import SPECIAL, QATokenizer
from lit_modules.parts.readers import EncoderError
from lit_modules.parts.unilm_network import UniLMNetwork

KEY = "generator"
TOKENS = {"what": "token", "take": "the training files and the tokenizer"}


class GeneratorState(DataState):
    """A network whose vocabulary comes from the data, and the tokenizer that it belongs to.

    The datamodule has the tokenizer as JSON text, ``tokenizer_json``, empty as long as it knows none, and, where it
    leaves out a part of the encoder's vocabulary, the numbers of the ``kept`` tokens. Checkpoints hold what it takes
    to build both again, so that neither training files nor the encoder's folder are needed. Uses the hyper-parameters
    that size the network.

    Attributes:
        network: the network; with an encoder there is none before the vocabulary is known.
        rebuilt_on_load: what is made as a checkpoint has it, whatever there was before.
    """

    rebuilt_on_load = ("network",)
    network: UniLMNetwork
    _tokenizer: QATokenizer | None = None
    _missing: EncoderError | None = None
    _data_class: str | None = None

    def build(self) -> None:
        """Make a network from scratch, if that is asked for; it grows when the vocabulary is known."""
        if self.hparams["encoder"] is None:
            self.network = self._scratch(len(SPECIAL))

    def _scratch(self, vocabulary: int) -> UniLMNetwork:
        names = ("hidden", "layers", "heads", "dropout", "max_positions", "tied")
        return UniLMNetwork.scratch(vocabulary, **{name: self.hparams[name] for name in names})

    @property
    def tokenizer(self) -> QATokenizer:
        """The tokenizer.

        Raises:
            ValueError: it is not known yet, or the encoder that it belongs to couldn't be had.
        """
        if self._missing is not None:
            raise self._missing
        if self._tokenizer is None:
            raise ValueError(
                f"{type(self).__name__} knows no vocabulary yet: train it with a PassageDataModule, or load a"
                " checkpoint"
            )
        return self._tokenizer

    # ---- The datamodule ----

    def take_data(self, data: Any) -> None:
        """Use a datamodule that is set up: its tokenizer, if none is known yet, and a network for that.

        Raises:
            ValueError: its vocabulary is another one than the network's, or doesn't fit the encoder.
        """
        # Lightning keeps its state under this name.
        self._data_class = type(data).__qualname__
        if not data.tokenizer_json:
            return
        tokenizer = QATokenizer(data.tokenizer_json)
        if self._tokenizer is not None:
            check_same(self._tokenizer.tokens, tokenizer.tokens, "the datamodule", **TOKENS)
            return
        try:
            self._use(self._new_network(tokenizer, data.kept), tokenizer)
        except EncoderError as error:
            # A checkpoint may bring what can't be had here.
            self._missing = error

    def _new_network(self, tokenizer: QATokenizer, kept: list[int] | None) -> UniLMNetwork:
        encoder, tokens = self.hparams["encoder"], len(tokenizer.tokens)
        if encoder is None:
            return self._scratch(tokens)
        network = UniLMNetwork.pretrained(encoder, self.hparams["tied"], kept)
        if network.vocabulary != tokens:
            raise ValueError(
                f"the data has {tokens} tokens and the encoder {network.vocabulary}: set data.tokenizer to {encoder!r}"
            )
        return network

    def _use(self, network: UniLMNetwork, tokenizer: QATokenizer) -> None:
        self.network, self._tokenizer, self._missing = network.to(self.device), tokenizer, None

    def _check_data(self) -> None:
        """See once more that the datamodule has the same vocabulary: a checkpoint may have come since."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.take_data(data)

    # ---- Its parameters, split among processes ----

    def configure_model(self) -> None:
        """Split the network's parameters among the processes if the strategy is ModelParallelStrategy.

        Raises:
            ValueError: its settings don't do that, or the run isn't one that trains.
        """
        if self.device_mesh is None:
            return
        if not self.is_fitting:
            raise ValueError("ModelParallelStrategy is for training only: set trainer.strategy to auto or ddp")
        sharding.split(self.network, self.network.layers, self.device_mesh)

    def on_validation_start(self) -> None:
        """Have the whole network on each process, which may write more or fewer pairs than the others."""
        sharding.gather(self.network, self.one_token)

    def on_validation_end(self) -> None:
        """Go back to a part on each."""
        sharding.scatter(self.network)

    def one_token(self) -> Tensor:
        """The network's logits after a single token, (1, 1, V)."""
        token = torch.zeros(1, 1, dtype=torch.int64, device=self.device)
        logits: Tensor = self.network(token, token, token == 0)
        return logits

    # ---- Checkpoints ----

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what it takes to build the network again and to read texts."""
        checkpoint[KEY] = {
            "tokenizer": self.tokenizer.json,
            "network": self.network.settings(),
            "data": self._data_class,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build what the checkpoint has.

        Raises:
            ValueError: it is of another size than the hyper-parameters say, a run that is gone on with has another
                vocabulary, or the attention is none that comes with torch.
        """
        saved = checkpoint[KEY]
        # transformers would take an address, and fetch code from there.
        check_name("attention", saved["network"]["attention"], ("sdpa", "eager"))
        self._data_class = saved["data"]
        self.keep_data_state(checkpoint, saved["data"])
        tokenizer = QATokenizer(saved["tokenizer"])
        if hasattr(self, "network"):
            check_same_sizes(self.network.settings(), saved["network"])
        if self._tokenizer is not None and self.is_fitting:
            check_same(self._tokenizer.tokens, tokenizer.tokens, "the checkpoint", **TOKENS)
        else:
            scratch = self.hparams["encoder"] is None
            network = self._scratch(len(tokenizer.tokens)) if scratch else UniLMNetwork.of_settings(saved["network"])
            self._use(network, tokenizer)


def check_same_sizes(own: dict[str, Any], saved: dict[str, Any]) -> None:
    """See that two networks have the same parameters, apart from their vocabularies.

    Args:
        own: the model's settings, as :meth:`UniLMNetwork.settings` gives them.
        saved: the checkpoint's.

    Raises:
        ValueError: a size differs, or what decides which parameters there are, naming it.
    """
    one, other = _sizes(own), _sizes(saved)
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            raise ValueError(
                f"the model's network has {name}={one.get(name)!r}, that of the checkpoint {name}={other.get(name)!r}"
            )


def _sizes(settings: dict[str, Any]) -> dict[str, Any]:
    # Numbers with a point, such as dropout, may be others when a run goes on.
    config = settings["config"]
    sizes = {name: value for name, value in config.items() if isinstance(value, int) and name != "vocab_size"}
    return sizes | {name: settings[name] for name in ("tied", "transform")} | {"model_type": config["model_type"]}
