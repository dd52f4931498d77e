"""Find out by trying how a network treats a batch: does it mix samples, does it repeat itself?

Both functions leave the network as it was (buffers, random states, training mode), and name the first layer that
does the deed, by following all layers' outputs.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from lit_modules.parts.networks import cached_weights

# Other rows of a batch move by rounding at most, which is 1e-7 of the values; batch statistics of 8 samples move by
# a part of the whole.
TOLERANCE = 1e-5


@torch.no_grad()
def mixing_layer(network: nn.Module, samples: Tensor) -> str | None:
    """The layer in which a sample's output begins to depend on other samples, or None if all outputs are their own.

    Each of at most 8 samples is changed in turn; does the output of another one move?

    Args:
        network: from samples (B, ...) to an output with B rows, in the mode (training, evaluation) to be tested.
        samples: typical inputs (B, ...), B >= 1.

    Returns:
        "path (class)" of the layer.

    Raises:
        ValueError: an output that doesn't belong to the samples.
    """
    inputs = _eight_rows(samples)
    noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0)).to(inputs)
    changed = 2 * inputs + (1 + inputs.abs().amax()) * noise
    with _left_as_it_was(network), cached_weights(network):
        for row in range(len(inputs)):
            others = torch.arange(len(inputs), device=inputs.device) != row
            one_changed = torch.where(others.reshape(-1, *[1] * (inputs.dim() - 1)), inputs, changed)
            if _moved(_outputs(network, inputs)[-1][1], _outputs(network, one_changed)[-1][1], others):
                before, after = _outputs(network, inputs, True), _outputs(network, one_changed, True)
                return _first_difference(before, after, others)
    return None


@torch.no_grad()
def unrepeatable_layer(network: nn.Module, samples: Tensor) -> str | None:
    """The layer that gives the same samples (B, ...) other outputs at a second pass, such as dropout, or None.

    Returns:
        "path (class)" of the layer.
    """
    inputs = _eight_rows(samples)
    rows = torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
    with _left_as_it_was(network), cached_weights(network):
        first, second = (_outputs(network, inputs, True, repeat=False) for _ in range(2))
    return _first_difference(first, second, rows) if _moved(first[-1][1], second[-1][1], rows) else None


def _eight_rows(samples: Tensor) -> Tensor:
    """4 of the samples and their negatives: 8 divides into the groups that some layers form, whatever B is."""
    four = samples[torch.arange(4, device=samples.device) % len(samples)]
    return torch.cat([four, -four])


Outputs = list[tuple[str, Tensor]]


def _outputs(network: nn.Module, inputs: Tensor, of_layers: bool = False, *, repeat: bool = True) -> Outputs:
    """(name, output) of all layers that were called, in the order in which they ended, the network itself last.

    ``repeat``: leave the random state and the buffers as they were, so that the next pass starts from them too.
    """
    found: Outputs = []

    def keep(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() and len(output) == len(inputs):
            found.append((name, output.clone()))

    hooks = [
        layer.register_forward_hook(lambda m, _, out, path=path: keep(f"{path} ({type(m).__name__})", out))
        for path, layer in network.named_modules()
        if of_layers and path
    ]
    try:
        with _left_as_it_was(network) if repeat else nullcontext():
            # forward and not a call: the compiled one would be compiled anew for this batch.
            output = network.forward(inputs)
            if not isinstance(output, Tensor) or output.numel() % len(inputs):
                got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise ValueError(f"{type(network).__name__} gives {got} for {len(inputs)} samples, not scores for each")
            keep(f"the forward of {type(network).__name__}", output.reshape(len(inputs), -1))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _moved(before: Tensor, after: Tensor, rows: Tensor) -> bool:
    before, after = before[rows].float(), after[rows].float()
    return bool((after - before).abs().amax() > TOLERANCE * before.abs().amax())


def _first_difference(before: Outputs, after: Outputs, rows: Tensor) -> str:
    return next(name for (name, x), (_, y) in zip(before, after, strict=True) if _moved(x, y, rows))


@contextmanager
def _left_as_it_was(network: nn.Module) -> Iterator[None]:
    """Give the buffers and all random states back at the end."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    devices = sorted({buffer.device for buffer in [*network.parameters(), *network.buffers()]}, key=str)
    cuda = [device for device in devices if device.type == "cuda"]
    try:
        with torch.random.fork_rng(cuda):
            yield
    finally:
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
