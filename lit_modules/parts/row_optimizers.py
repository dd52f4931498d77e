"""Optimizers for tables of which a step touches a few rows: only these are read and written.

For word vectors RowAdagrad needs the fewest passes over the text; after twenty, RowSGD is the better one. The numbers
are in docs/library_embedding.md.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from lit_modules.parts.flows import Closure, evaluated


class _RowOptimizer(Optimizer, ABC):
    """Moves each row by its gradient times -lr and a number that a subclass finds for it."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with its settings checked."""
        super().add_param_group(param_group)
        added = self.param_groups[-1]
        if not (math.isfinite(added["lr"]) and added["lr"] >= 0):
            raise ValueError(f"{type(self).__name__}: lr={added['lr']} must be a number from 0 on")
        self._check(added)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Move the rows that have a gradient; returns the closure's loss."""
        loss = evaluated(closure)
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    rows, gradients = touched_rows(table, type(self).__name__)
                    flat = gradients.flatten(1) if gradients.dim() > 1 else gradients.unsqueeze(1)
                    scales = self._scales(table, group, rows, vector_norm(flat, dim=1))
                    moves = (flat * scales.unsqueeze(1)).view_as(gradients)
                    table.index_add_(0, rows, moves, alpha=-group["lr"])
        return loss

    @abstractmethod
    def _check(self, group: dict[str, Any]) -> None:
        """Raise ValueError for a setting out of its range."""

    @abstractmethod
    def _scales(self, table: Tensor, group: dict[str, Any], rows: Tensor, norms: Tensor) -> Tensor:
        """(R,) for the rows (R,) of a table, whose gradients have the norms (R,)."""


class RowSGD(_RowOptimizer):
    """Gradient descent in which no row moves farther than lr * max_row_norm in a step; without a state.

    With g the gradient of a row, summed over a batch:

        row <- row - lr g min(1, max_row_norm / |g|)

    A row that a batch holds once moves as word2vec moves it. One that it holds a hundred times gets a hundred gradients
    that do not know of each other, all taken at the same point: the bound is what keeps their sum from overshooting.
    Clipping the norm of the whole gradient would slow down the rare rows because of the frequent ones.

    Args:
        params: parameters or parameter groups; their gradients must be sparse, as ``nn.Embedding(sparse=True)`` and
            ``parts.skip_gram`` give them.
        lr: learning rate; word2vec's by default.
        max_row_norm: bound of a row's gradient; inf for none. Without one, word vectors of batches of 4,096 tokens
            diverge at word2vec's learning rate.

    Raises:
        ValueError: a setting out of its range; in a step, a gradient that is dense.
    """

    def __init__(self, params: ParamsT, lr: float = 0.025, max_row_norm: float = 20.0) -> None:
        super().__init__(params, {"lr": lr, "max_row_norm": max_row_norm})

    def _check(self, group: dict[str, Any]) -> None:
        if not group["max_row_norm"] > 0:
            raise ValueError(f"RowSGD: max_row_norm={group['max_row_norm']} must be positive")

    def _scales(self, table: Tensor, group: dict[str, Any], rows: Tensor, norms: Tensor) -> Tensor:
        return (group["max_row_norm"] / norms).clamp_max(1)


class RowAdagrad(_RowOptimizer):
    """AdaGrad with one learning rate a row: one number of state for each row, and none for its columns.

    With g the gradient of a row of d numbers, summed over a batch:

        h <- h + |g|^2 / d,        row <- row - lr g / sqrt(h + eps)

    A batch of words holds a frequent one a hundred times, and its gradients, all taken at the same point, would
    overshoot if they were summed at the rate that a rare word needs: h grows with them, and a row that was touched
    often moves by ever less.

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

    def _check(self, group: dict[str, Any]) -> None:
        if not (math.isfinite(group["eps"]) and group["eps"] > 0):
            raise ValueError(f"RowAdagrad: eps={group['eps']} must be a positive number")

    def _scales(self, table: Tensor, group: dict[str, Any], rows: Tensor, norms: Tensor) -> Tensor:
        state = self.state[table]
        if not state:
            state["mean_squares"] = table.new_zeros(len(table))
        state["mean_squares"].index_add_(0, rows, norms.square() / table[0].numel())
        return (state["mean_squares"].index_select(0, rows) + group["eps"]).rsqrt()


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
