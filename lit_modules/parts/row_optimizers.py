"""An optimizer for tables of which a step touches a few rows: only these are read and written."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from lit_modules.parts.flows import Closure, evaluated


class RowAdagrad(Optimizer):
    """AdaGrad with one learning rate a row: one number of state for each row, and none for its columns.

    With g the gradient of a row of d numbers, summed over a batch:

        h <- h + |g|^2 / d,        row <- row - lr g / sqrt(h + eps)

    A batch of words holds a frequent one a hundred times, and its gradients, all taken at the same point, would
    overshoot if they were summed at the rate that a rare word needs: h grows with them, and a row that was touched
    often moves by ever less. Two passes over 5.9 million English words do as much for word vectors as five with SGD.

    Source: Duchi et al. 2011 (JMLR 12, 2121), with the mean of the squares over a row in place of the squares.

    Args:
        params: parameters or parameter groups; their gradients must be sparse, as ``nn.Embedding(sparse=True)`` and
            ``parts.skip_gram`` give them.
        lr: learning rate.
        eps: against a first gradient that is nearly 0.

    Raises:
        ValueError: a setting out of its range; in a step, a gradient that is dense.
    """

    def __init__(self, params: ParamsT, lr: float = 0.2, eps: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with its settings checked."""
        super().add_param_group(param_group)
        added = self.param_groups[-1]
        if not (math.isfinite(added["lr"]) and added["lr"] >= 0):
            raise ValueError(f"RowAdagrad: lr={added['lr']} must be a number from 0 on")
        if not (math.isfinite(added["eps"]) and added["eps"] > 0):
            raise ValueError(f"RowAdagrad: eps={added['eps']} must be a positive number")

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Move the rows that have a gradient; returns the closure's loss."""
        loss = evaluated(closure)
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._move(table, group["lr"], group["eps"])
        return loss

    def _move(self, table: Tensor, lr: float, eps: float) -> None:
        rows, gradients = touched_rows(table, type(self).__name__)
        state = self.state[table]
        if not state:
            state["mean_squares"] = table.new_zeros(len(table))
        flat = gradients.view(len(rows), -1)
        state["mean_squares"].index_add_(0, rows, vector_norm(flat, dim=1).square_().div_(flat.shape[1]))
        scales = state["mean_squares"].index_select(0, rows).add_(eps).rsqrt_()
        table.index_add_(0, rows, (flat * scales.unsqueeze(1)).view_as(gradients), alpha=-lr)


def touched_rows(table: Tensor, optimizer: str) -> tuple[Tensor, Tensor]:
    """The numbers (R,) of the rows that have a gradient, each once, and their gradients (R, ...).

    Raises:
        ValueError: the table's gradient is dense, or sparse in more than the rows; ``optimizer`` is what to blame.
    """
    gradient = table.grad
    assert gradient is not None
    if not gradient.is_sparse:
        raise ValueError(
            f"{optimizer} takes sparse gradients only, but a parameter of shape {tuple(table.shape)} has a dense one:"
            " set sparse=True in the embedding, or take another optimizer, such as torch.optim.Adam"
        )
    if gradient.sparse_dim() != 1:
        raise ValueError(
            f"{optimizer} takes gradients that are sparse in rows, not in {gradient.sparse_dim()} dimensions"
        )
    rows = gradient._indices()[0]
    # Autograd forgets that a gradient is coalesced, and doing so again would cost as much as the rest of the step.
    if not bool((rows[1:] > rows[:-1]).all()):
        gradient = gradient.coalesce()
    return gradient._indices()[0], gradient._values()
