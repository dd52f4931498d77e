"""What a callback may ask of a LightningModule: small protocols, so that callbacks know no architecture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray
from torch import Tensor, nn


@runtime_checkable
class SupportsSampling(Protocol):
    """A module that generates images by itself."""

    def sample(self, n: int, /) -> Tensor:
        """n images (n, C, H, W) on the module's device, in its training range; draws its own noise."""


@runtime_checkable
class SupportsSampleFrom(Protocol):
    """A module that generates images from latent vectors that a caller can hold on to."""

    def latents(self, n: int, /) -> Tensor:
        """n latent rows (n, ...) on the module's device, drawn from torch's global random state."""

    def decode(self, z: Tensor, /) -> Tensor:
        """The images (n, C, H, W), in the module's training range, of latent rows (n, ...)."""


@runtime_checkable
class SupportsEncoding(Protocol):
    """A module that maps images to codes."""

    def encode(self, x: Tensor, /) -> Tensor:
        """The codes (B, d) of images (B, C, H, W) in the module's training range."""


@runtime_checkable
class SupportsDrawnCodes(Protocol):
    """A module whose codes have noise when it is trained, such as a VAE."""

    def draw_codes(self, x: Tensor, /) -> Tensor:
        """The codes (B, d) of images (B, C, H, W), with noise from torch's random state."""


@runtime_checkable
class SupportsDecoding(Protocol):
    """A module that maps codes to images."""

    def decode(self, z: Tensor, /) -> Tensor:
        """The images (n, C, H, W), in the module's training range, of codes (n, d)."""


@runtime_checkable
class SupportsReconstruction(Protocol):
    """A module that encodes and decodes images."""

    def reconstruct(self, x: Tensor, /) -> Tensor:
        """The reconstructions (B, C, H, W) of images (B, C, H, W), both in the module's training range."""


@runtime_checkable
class SupportsReference(Protocol):
    """A datamodule that hands out the images which generated ones are compared with."""

    def reference_dataloader(self) -> Iterable[Any]:
        """This rank's share of the training images, not augmented, in order: batches (images, labels)."""


@runtime_checkable
class PreparesModule(Protocol):
    """A callback that gives a module other parameters, such as normalized ones, before a checkpoint is loaded."""

    def prepare_module(self, pl_module: nn.Module, /) -> None:
        """Change the module in place; doing it again changes nothing."""


@runtime_checkable
class SupportsFlow(Protocol):
    """A module that measures how its loss moves in time while it is trained."""

    def flow_point(self) -> Mapping[str, Any] | None:
        """What was measured at the last step, None if nothing was.

        Numbers "step", "time", "loss", "dloss_dt" and "dloss_dt_predicted"; perhaps the parameters, a list "theta";
        perhaps "ode_theta" and "ode_loss", the same at that time on the trajectory that is followed.
        """


@runtime_checkable
class SupportsItemVectors(Protocol):
    """A module that learns a vector for each of its items, such as words, books or points."""

    def item_vectors(self) -> tuple[list[str], Tensor]:
        """The items and their vectors (N, d), in the same order; asked of one process only."""


class LibraryPlan(Protocol):
    """Where the items of a library stand, and what their readers walk."""

    @property
    def positions(self) -> NDArray[Any]:
        """The items' positions (N, 3), in the order of the items; the entrance is the origin."""

    @property
    def costs(self) -> Mapping[str, float]:
        """What readers walk in different arrangements at these positions, by name; the last one is this plan's."""


@runtime_checkable
class SupportsFloorPlan(Protocol):
    """A module that plans where the items of a library stand."""

    def floor_plan(self, pairs: Mapping[str, Tensor], /) -> LibraryPlan:
        """A plan for readers who borrow pairs "center", "context" (int64) of items with "weight", each (P,)."""


@runtime_checkable
class SupportsSkippedPredictions(Protocol):
    """A datamodule that can begin to predict where an earlier run was cut off.

    Its predict dataloader gives the inputs in their order, and `predict_step` what is predicted of each. With several
    processes, which all have the same number of batches, the order is: the first batches of all, by rank, then their
    second ones, and so on.
    """

    skip_predictions: int
    """How many of the first inputs the predict dataloader leaves out, counted over all processes."""


class AskedPair(Protocol):
    """A question and its answer."""

    @property
    def question(self) -> str:
        """Its text."""

    @property
    def answer(self) -> str:
        """Its text."""

    @property
    def score(self) -> float:
        """How probable both are, the more the greater."""


@runtime_checkable
class SupportsAsking(Protocol):
    """A module that asks questions about texts, and answers them."""

    def ask(self, passage: list[str], /, n: int, seed: int) -> Sequence[Sequence[AskedPair]]:
        """At most n pairs about each text; the seed is of the random numbers."""


class MissingMethodsError(TypeError):
    """A module lacks the methods that a callback asks for; the message names them."""


def require(module: object, protocol: type[Any], asked_by: object) -> Any:
    """`module` itself, known to satisfy `protocol`.

    Raises:
        MissingMethodsError: it doesn't; the message names the module's class and the methods it lacks.
    """
    if isinstance(module, protocol):
        return module
    wanted = [name for name in vars(protocol) if not name.startswith("_")]
    missing = " and ".join(f"{name}()" for name in wanted if not callable(getattr(module, name, None)))
    raise MissingMethodsError(
        f"{type(asked_by).__name__} needs a module with {missing}, which {type(module).__name__} doesn't have"
        f" (see callbacks.protocols.{protocol.__name__})"
    )
