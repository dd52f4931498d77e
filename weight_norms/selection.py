"""Which weights of a module: chosen by class, by name pattern or by a predicate; what matches nothing is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from weight_norms.arguments import nearest

KERNELS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Predicate = Callable[[str, nn.Module], bool]
Layers = list[tuple[str, nn.Module]]


@dataclass(frozen=True)
class Weight:
    """One parameter of one layer.

    Args:
        path: the layer's qualified name, "" for the module itself.
        layer: the layer.
        name: the parameter's name in the layer, such as "weight".
    """

    path: str
    layer: nn.Module = field(repr=False)
    name: str

    @property
    def dim(self) -> int:
        """The dimension that counts the layer's outputs: 1 for transposed convolutions, else 0."""
        return 1 if isinstance(self.layer, TRANSPOSED) else 0

    def __str__(self) -> str:
        return f"{'.'.join(part for part in (self.path, self.name) if part)} ({_class_name(self.layer)})"


@dataclass(frozen=True)
class Selection:
    """A choice of weights. A layer has to satisfy all criteria that are given; without any, it has to be a kernel:
    dense, convolution or transposed convolution.

    Args:
        classes: names of classes, of which a layer has to be one: "Conv2d", "BatchNorm2d", or in full
            "my_package.layers.Attention". Subclasses count.
        names: shell-style patterns, of which the layer's qualified name has to match one: "discriminator.*".
        predicate: a function (qualified name, layer) -> bool, or its dotted path.
        parameter: shell-style pattern of the parameters' names in a layer: "weight", "weight_*" (all of an LSTM).
    """

    classes: Sequence[str] = ()
    names: Sequence[str] = ()
    predicate: str | Predicate | None = None
    parameter: str = "weight"

    def __post_init__(self) -> None:
        for argument in ("classes", "names"):
            if isinstance(getattr(self, argument), str):
                raise ValueError(f"{argument} is a list: [{getattr(self, argument)}]")

    def of(self, module: nn.Module) -> list[Weight]:
        """The chosen weights, in the order of ``module.named_modules()``.

        Raises:
            ValueError: nothing is chosen, or one of the classes or patterns contributes nothing; the message names
                it and the nearest that there is.
        """
        layers = list(_layers(module))
        chosen = [Weight(*pair, name) for pair in layers if self._takes(*pair) for name in self._names(pair[1])]
        complaint = self._complaint(type(module).__name__, layers, chosen)
        if complaint and not any(_parameters(layer) for _, layer in layers):
            complaint += "; layers made in setup() or configure_model() come too late: make them in __init__"
        if complaint:
            raise ValueError(complaint)
        return chosen

    def _takes(self, path: str, layer: nn.Module) -> bool:
        if not (self.classes or self.names or self.predicate):
            return isinstance(layer, KERNELS)
        return (
            (not self.classes or any(_is_a(name, path, layer) for name in self.classes))
            and (not self.names or any(_is_called(pattern, path, layer) for pattern in self.names))
            and (self.predicate is None or bool(_function(self.predicate)(path, layer)))
        )

    def _names(self, layer: nn.Module) -> list[str]:
        return [name for name in _parameters(layer) if fnmatchcase(name, self.parameter)]

    def _complaint(self, kind: str, layers: Layers, chosen: list[Weight]) -> str:
        """What matches nothing, "" if all is well."""
        classes = [("classes", name, partial(_is_a, name)) for name in self.classes]
        names = [("names", pattern, partial(_is_called, pattern)) for pattern in self.names]
        for argument, value, matches in classes + names:
            if not any(matches(*pair) for pair in layers):
                there = [_class_name(part) if argument == "classes" else path for path, part in layers]
                return f"{argument}: {value!r} matches no layer of {kind}; the nearest: {nearest(value, there)}"
            if chosen and not any(matches(weight.path, weight.layer) for weight in chosen):
                return f"{argument}: {value!r} adds nothing: {self._why(layers, matches)}"
        if chosen:
            return ""
        if not (self.classes or self.names or self.predicate):
            return f"{kind} has no kernel (Linear, Conv, ConvTranspose) with a parameter {self.parameter!r}"
        return f"no layer of {kind} is chosen: {self._why(layers, self._takes)}"

    def _why(self, layers: Layers, matches: Predicate) -> str:
        """Why the layers that match one criterion give no weight."""
        matching = [layer for path, layer in layers if matches(path, layer)]
        own = sorted({name for layer in matching for name in _parameters(layer)})
        if matching and not any(fnmatchcase(name, self.parameter) for name in own):
            has = f"; the nearest: {nearest(self.parameter, own)}" if own else ""
            return f"its layers have no parameter that matches {self.parameter!r}{has}"
        kinds = sorted({_class_name(layer) for layer in matching if _parameters(layer)})
        given = {"classes": self.classes, "names": self.names, "predicate": self.predicate}
        asked = ", ".join(f"{name}={value!r}" for name, value in given.items() if value)
        return f"none satisfies {asked}" + (f" (there: {', '.join(kinds)})" if kinds else "")


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Qualified names, alike whether parts are compiled or not, and layers, without the parametrizations' own."""
    for name, layer in module.named_modules():
        path = ".".join(part for part in name.split(".") if part != "_orig_mod")
        if "parametrizations" not in path.split("."):
            yield path, layer


def _parameters(layer: nn.Module) -> list[str]:
    """The names of the layer's own parameters, those that are computed by a parametrization too."""
    own = [name for name, _ in layer.named_parameters(recurse=False)]
    computed: Any = layer.parametrizations if parametrize.is_parametrized(layer) else {}
    return own + list(computed)


def _class_name(layer: nn.Module) -> str:
    return parametrize.type_before_parametrizations(layer).__name__


def _is_a(name: str, path: str, layer: nn.Module) -> bool:
    if "." in name:
        return isinstance(layer, _imported(name, "classes"))
    return any(kind.__name__ == name for kind in type(layer).__mro__)


def _is_called(pattern: str, path: str, layer: nn.Module) -> bool:
    return fnmatchcase(path, pattern)


def _function(predicate: str | Predicate) -> Predicate:
    return _imported(predicate, "predicate") if isinstance(predicate, str) else predicate


def _imported(path: str, argument: str) -> Any:
    folder, _, name = path.rpartition(".")
    try:
        return getattr(import_module(folder), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{argument}: {path!r} cannot be imported: {error}") from error
