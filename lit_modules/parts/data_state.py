"""What a module that begins with its datamodule's vocabulary keeps of that datamodule in its checkpoints."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from lightning.pytorch import LightningModule

_STATE_FOLLOWS = ContextVar("_STATE_FOLLOWS", default=False)


@contextmanager
def from_state() -> Iterator[None]:
    """Inside, modules are built that get a checkpoint's state next: what that brings is not loaded from elsewhere."""
    token = _STATE_FOLLOWS.set(True)
    try:
        yield
    finally:
        _STATE_FOLLOWS.reset(token)


class DataState(LightningModule):
    """Takes what it needs from its datamodule, which, unless it is to fit, first gets the checkpoint's state of it."""

    _data_state: dict[str, Any] | None = None

    def setup(self, stage: str) -> None:
        """Take the vocabulary from the datamodule, or see that it is the same."""
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            return
        if stage != "fit":
            self.hand_over(data)
        self.take_data(data)

    @abstractmethod
    def take_data(self, data: Any) -> None:
        """Use a datamodule that is set up."""

    def hand_over(self, data: Any) -> None:
        """Give the datamodule the state that the checkpoint has of it, if this module comes from one."""
        if self._data_state is not None:
            data.load_state_dict(self._data_state)

    def keep_data_state(self, checkpoint: dict[str, Any], name: str) -> None:
        """Remember the state of the datamodule in a checkpoint, where Lightning keeps it under its class's name."""
        self._data_state = checkpoint.get(name)

    @property
    def state_follows(self) -> bool:
        """Whether a checkpoint's state comes next (see :func:`from_state`)."""
        return _STATE_FOLLOWS.get()

    @property
    def is_fitting(self) -> bool:
        """Whether a Trainer fits this module."""
        return self._trainer is not None and bool(self._trainer.state.fn == "fit")


def check_same(own: Sequence[str], others: Sequence[str], where: str, *, what: str, take: str) -> None:
    """See that two vocabularies are the same.

    Args:
        own: the model's, by their numbers.
        others: those to compare with.
        where: whose they are.
        what: what one of them is called.
        take: what they are learned from.

    Raises:
        ValueError: they differ, naming the first that does.
    """
    if list(own) == list(others):
        return
    if len(own) != len(others):
        raise ValueError(
            f"the model has {len(own)} {what}s, {where} has {len(others)}: take {take} that it was trained with"
        )
    number = next(number for number, (one, other) in enumerate(zip(own, others, strict=True)) if one != other)
    raise ValueError(f"the model's {what} {number} is {own[number]!r}, that of {where} is {others[number]!r}")
