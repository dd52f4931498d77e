"""RowSGD: known answers, what it shares with torch's SGD, groups, states, and what it refuses."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from lit_modules.parts.optimizers import optimizer_class
from lit_modules.parts.row_optimizers import RowSGD


def table(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, dtype=torch.float64))


def set_gradient(parameter: nn.Parameter, rows: list[int], values: list[list[float]]) -> None:
    parameter.grad = torch.sparse_coo_tensor(
        torch.tensor([rows]), torch.tensor(values, dtype=torch.float64), parameter.shape, check_invariants=True
    )


def test_a_row_moves_by_its_gradient_until_the_bound() -> None:
    parameter = table(4, 2)
    before = parameter.detach().clone()
    set_gradient(parameter, [0, 2, 3], [[3.0, 4.0], [30.0, 40.0], [0.0, 0.0]])
    RowSGD([parameter], lr=0.1, max_row_norm=10.0).step()
    moved = torch.tensor([[-0.3, -0.4], [0.0, 0.0], [-0.6, -0.8], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(parameter.detach() - before, moved)


def test_gradients_of_a_row_are_summed_before_they_are_bounded() -> None:
    parameter = table(3, 2)
    before = parameter.detach().clone()
    set_gradient(parameter, [1, 1, 1], [[9.0, 0.0], [9.0, 0.0], [-8.0, 0.0]])
    RowSGD([parameter], lr=1.0, max_row_norm=10.0).step()
    torch.testing.assert_close(parameter.detach()[1] - before[1], torch.tensor([-10.0, 0.0], dtype=torch.float64))


def test_without_a_bound_it_is_sgd() -> None:
    ours, theirs = table(6, 3), table(6, 3)
    theirs.data.copy_(ours.data)
    picked = torch.tensor([0, 5, 5, 2])
    for parameter, optimizer in ((ours, RowSGD([ours], 0.3, float("inf"))), (theirs, SGD([theirs], 0.3))):
        for _ in range(5):
            optimizer.zero_grad()
            embedding(picked, parameter, sparse=True).sin().square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)])
def test_rows_may_have_any_shape(shape: tuple[int, ...]) -> None:
    parameter = table(*shape)
    before = parameter.detach().clone()
    values = torch.full((1, *shape[1:]), 8.0, dtype=torch.float64)
    parameter.grad = torch.sparse_coo_tensor(torch.tensor([[2]]), values, shape, check_invariants=True)
    RowSGD([parameter], lr=1.0, max_row_norm=2.0).step()
    assert (parameter.detach() - before).norm().item() == pytest.approx(2.0)


def test_groups_have_their_own_settings_and_schedulers_work() -> None:
    first, second = table(2, 2), table(2, 2)
    groups = [{"params": [first], "max_row_norm": 10.0}, {"params": [second], "lr": 1.0, "max_row_norm": 5.0}]
    optimizer = RowSGD(groups, lr=0.5)
    scheduler = LambdaLR(optimizer, lambda step: 1 - step / 2)
    moved = []
    for _ in range(2):
        before = [first.detach().clone(), second.detach().clone()]
        for parameter in (first, second):
            set_gradient(parameter, [0], [[8.0, 0.0]])
        optimizer.step()
        scheduler.step()
        moved.append([(then - now)[0, 0].item() for then, now in zip(before, (first, second), strict=True)])
    assert moved == [pytest.approx([4.0, 5.0]), pytest.approx([2.0, 2.5])]


def test_resumes_exactly() -> None:
    def step(parameter: nn.Parameter, optimizer: RowSGD) -> None:
        optimizer.zero_grad()
        embedding(torch.tensor([1, 1, 3]), parameter, sparse=True).pow(2).sum().backward()
        optimizer.step()

    parameter = table(4, 2)
    optimizer = RowSGD([parameter], lr=0.2, max_row_norm=0.5)
    step(parameter, optimizer)
    other = nn.Parameter(parameter.detach().clone())
    resumed = RowSGD([other])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(parameter, optimizer)
    step(other, resumed)
    assert torch.equal(parameter, other)


def test_closure_and_parameters_without_a_gradient() -> None:
    used, idle = table(3, 2), table(3, 2)
    before = idle.detach().clone()
    optimizer = RowSGD([used, idle], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = embedding(torch.tensor([1]), used, sparse=True).square().sum()
        loss.backward()
        return loss

    expected = used.detach()[1].square().sum()
    torch.testing.assert_close(optimizer.step(closure).detach(), expected)
    torch.testing.assert_close(used.detach()[1].square().sum(), 0.64 * expected)
    assert torch.equal(idle, before)


def test_refuses_dense_gradients() -> None:
    parameter = table(3, 2)
    parameter.square().sum().backward()
    with pytest.raises(ValueError, match=r"RowSGD takes sparse gradients only, but a parameter of shape \(3, 2\)"):
        RowSGD([parameter]).step()


def test_refuses_gradients_that_are_sparse_in_more_than_rows() -> None:
    parameter = table(3, 2)
    parameter.grad = torch.ones(3, 2, dtype=torch.float64).to_sparse()
    with pytest.raises(ValueError, match="sparse in rows, not in 2 dimensions"):
        RowSGD([parameter]).step()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "RowSGD: lr=-1.0 must be a number from 0 on"),
        ({"lr": float("inf")}, "RowSGD: lr=inf must"),
        ({"max_row_norm": 0.0}, "RowSGD: max_row_norm=0.0 must be positive"),
        ({"max_row_norm": float("nan")}, "RowSGD: max_row_norm=nan must"),
    ],
)
def test_refuses_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RowSGD([table(2, 2)], **settings)


def test_has_a_short_name() -> None:
    assert optimizer_class("RowSGD") is RowSGD
