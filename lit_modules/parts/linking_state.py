"""What an entity linker learns from its datamodule and keeps in its checkpoints."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from lit_modules.parts.data_state import DataState, check_same
from lit_modules.parts.linking_network import LinkingNetwork
from lit_modules.parts.readers import (
    EncoderError,
    PretrainedReader,
    RecurrentReader,
    encoder_of,
    encoder_settings,
    load_encoder,
)

KEY = "linker"
CHARACTERS = {"what": "character", "take": "the knowledge base and the training texts"}


class LinkingState(DataState):
    """A linking network whose sizes come from the data, and the datamodule that has the knowledge base.

    Without an encoder the network has embeddings of the characters in the datamodule's attribute ``characters`` and a
    projection of its ``word_vectors``, if there are any. Checkpoints hold what it takes to build it again, so that
    neither training texts nor the encoder's folder are needed. Uses the hyper-parameters that size the network.

    Attributes:
        characters: those that have embeddings, by their numbers; empty before they are known, and with an encoder.
        network: the network.
    """

    characters: list[str]
    network: LinkingNetwork
    _missing: EncoderError | None = None
    _data: Any = None

    def build(self, characters: Sequence[str]) -> None:
        """Make the network, without an encoder that can't be had: a checkpoint may bring it.

        Args:
            characters: those that get embeddings.
        """
        hp = self.hparams
        self.characters = []
        if hp["encoder"] is None:
            self._assemble(RecurrentReader(hp["dim"], hp["hidden"], hp["dropout"]))
            self._take_characters(characters, 0)
            return
        try:
            self._assemble(self._reader_with(self._encoder(hp["encoder"])))
        except EncoderError as error:
            self._missing = error

    def _encoder(self, name: str) -> nn.Module:
        if self.state_follows:
            raise EncoderError(f"encoder={name!r} is not loaded, its weights come from a checkpoint")
        return load_encoder(name)

    def _reader_with(self, encoder: nn.Module) -> PretrainedReader:
        return PretrainedReader(encoder, 2 * self.hparams["hidden"], self.hparams["dropout"])

    def _assemble(self, reader: RecurrentReader | PretrainedReader) -> None:
        sizes = {name: self.hparams[name] for name in ("hidden", "heads", "head_dim", "features")}
        self.network, self._missing = LinkingNetwork(reader, **sizes), None

    def _take_characters(self, characters: Sequence[str], word_dim: int) -> None:
        reader = self.network.reader
        if isinstance(reader, RecurrentReader):
            self.characters = list(characters)
            reader.resize(len(characters), word_dim)

    # ---- The datamodule ----

    @property
    def data(self) -> Any:
        """The datamodule: the Trainer's, or one that was set, which is then set up and gets the checkpoint's state.

        Raises:
            ValueError: there is none yet.
        """
        if self._data is None:
            raise ValueError(
                f"{type(self).__name__} has no knowledge base: set its attribute data to an"
                " EntityLinkingDataModule(knowledge=...)"
            )
        return self._data

    @data.setter
    def data(self, data: Any) -> None:
        data.prepare_data()
        data.setup("predict")
        self.hand_over(data)
        self.take_data(data)

    def setup(self, stage: str) -> None:
        """Take characters and word vectors from the datamodule, or see that they are the same."""
        if self._missing is not None:
            raise self._missing
        super().setup(stage)

    def take_data(self, data: Any) -> None:
        """Use a datamodule that is set up, its word vectors, and its characters if none are known yet.

        Raises:
            ValueError: its characters are others than the network's, or it has word vectors and there is an encoder.
        """
        self._data, reader = data, self.network.reader
        characters, vectors = getattr(data, "characters", []), getattr(data, "word_vectors", None)
        if not isinstance(reader, RecurrentReader):
            if vectors is not None:
                raise ValueError("an encoder reads pieces of its own: leave data.word_vectors out")
            return
        if not self.characters:
            self._take_characters(characters, 0 if vectors is None else vectors.shape[1])
        elif characters:
            check_same(self.characters, characters, "the datamodule", **CHARACTERS)
        reader.use_word_vectors(vectors)

    # ---- Checkpoints ----

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what it takes to build the network again."""
        reader = self.network.reader
        checkpoint[KEY] = {
            "characters": self.characters,
            "word_dim": reader.words.shape[1] if isinstance(reader, RecurrentReader) else 0,
            "encoder": encoder_settings(reader.model) if isinstance(reader, PretrainedReader) else None,
            # Lightning keeps its state under this name.
            "data": type(self._data).__qualname__,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build what the checkpoint has, or see that it is the same."""
        saved = checkpoint[KEY]
        self.keep_data_state(checkpoint, saved["data"])
        if saved["encoder"] is not None:
            if self._missing is not None:
                self._assemble(self._reader_with(encoder_of(saved["encoder"])))
        elif self.characters and self.is_fitting:
            check_same(self.characters, saved["characters"], "the checkpoint", **CHARACTERS)
        else:
            self._take_characters(saved["characters"], saved["word_dim"])
