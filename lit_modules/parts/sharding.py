"""A network whose parameters are split among the processes, by PyTorch's FSDP2 under Lightning's ModelParallelStrategy.

Each process keeps its part of parameters, gradients and optimizer states; a layer's parameters are put together for as
long as the layer computes. With ``gather`` they stay together, so that processes may then use the network unequally
often, as in writing texts.

Sources: torch.distributed.fsdp.fully_shard; Zhao et al., PyTorch FSDP, https://arxiv.org/abs/2304.11277.
"""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

SETTINGS = (
    "trainer.strategy.data_parallel_size to the number of processes and trainer.strategy.tensor_parallel_size to 1"
)


def split(network: nn.Module, layers: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Split a network's parameters among the processes, layer by layer, the rest together.

    Args:
        network: the whole.
        layers: parts of it that are called one after the other.
        mesh: ModelParallelStrategy's.

    Raises:
        ValueError: the strategy would keep whole layers on each process and never exchange their gradients, or torch is
            older than what `scatter` needs.
    """
    if not hasattr(FSDPModule, "reset_iter_state"):
        raise ValueError(f"splitting a network needs a newer torch than {torch.__version__}, as in constraints.txt")
    if mesh["tensor_parallel"].size() > 1:
        raise ValueError(f"the parameters are split by data parallelism only: set {SETTINGS}")
    for layer in layers:
        fully_shard(layer, mesh=mesh["data_parallel"])
    fully_shard(network, mesh=mesh["data_parallel"])


def gather(network: nn.Module, forward: Callable[[], object]) -> None:
    """Put all parameters together on each process, until :func:`scatter`; nothing for a network that isn't split.

    Args:
        network: the whole.
        forward: calls it once. All processes do this together.
    """
    if not isinstance(network, FSDPModule):
        return
    network.set_reshard_after_forward(False)
    # What inference mode puts together could not be trained with.
    with torch.inference_mode(False), torch.no_grad():
        forward()


def scatter(network: nn.Module) -> None:
    """Keep this process's part only, and let the layers do so again after each call."""
    if not isinstance(network, FSDPModule):
        return
    network.set_reshard_after_forward(True)
    # The outermost module is needed again at once, by the backward pass.
    network.set_reshard_after_forward(False, recurse=False)
    # Also forgets in which order layers were called, which the next backward pass would fetch them in: an order that
    # the processes may not share.
    network.reset_iter_state()
