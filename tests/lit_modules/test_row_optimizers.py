"""RowSGD and RowAdagrad: known answers, what they share with torch's own, groups, states, and what they refuse."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch.optim import SGD, Adagrad, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lit_modules.parts.optimizers import optimizer_class
from lit_modules.parts.row_optimizers import RowAdagrad, RowSGD


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


def test_a_row_moves_by_its_gradient_over_the_root_of_all_mean_squares() -> None:
    parameter = table(4, 2)
    before = parameter.detach().clone()
    optimizer = RowAdagrad([parameter], lr=0.1, eps=0.5)
    set_gradient(parameter, [0, 2, 3], [[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])
    optimizer.step()
    set_gradient(parameter, [0], [[-6.0, 8.0]])
    optimizer.step()
    # Mean squares of 12.5 and 12.5 + 50, of 0.5, and of 0.
    first = torch.tensor([0.3 / 13**0.5 - 0.6 / 63**0.5, 0.4 / 13**0.5 + 0.8 / 63**0.5])
    moved = torch.stack([-first, torch.zeros(2), torch.tensor([0.0, -0.1]), torch.zeros(2)]).double()
    torch.testing.assert_close(parameter.detach() - before, moved, rtol=1e-6, atol=1e-8)
    assert optimizer.state[parameter]["mean_squares"].tolist() == pytest.approx([62.5, 0, 0.5, 0])


def test_gradients_of_a_row_are_summed_before_they_are_squared() -> None:
    parameter = table(3, 2)
    before = parameter.detach().clone()
    set_gradient(parameter, [1, 1, 1], [[9.0, 0.0], [9.0, 0.0], [-8.0, 0.0]])
    RowAdagrad([parameter], lr=1.0, eps=1e-12).step()
    moved = torch.tensor([-(2**0.5), 0.0], dtype=torch.float64)
    torch.testing.assert_close(parameter.detach()[1] - before[1], moved)


def test_with_one_column_it_is_torchs_adagrad() -> None:
    ours, theirs = table(6, 1), table(6, 1)
    theirs.data.copy_(ours.data)
    picked = torch.tensor([0, 5, 5, 2])
    tried = (ours, RowAdagrad([ours], 0.3, eps=1e-12), True), (theirs, Adagrad([theirs], 0.3), False)
    for parameter, optimizer, sparse in tried:
        for _ in range(5):
            optimizer.zero_grad()
            embedding(picked, parameter, sparse=sparse).sin().square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)])
def test_rows_may_have_any_shape(shape: tuple[int, ...]) -> None:
    parameter = table(*shape)
    before = parameter.detach().clone()
    values = torch.full((1, *shape[1:]), 8.0, dtype=torch.float64)
    parameter.grad = torch.sparse_coo_tensor(torch.tensor([[2]]), values, shape, check_invariants=True)
    RowAdagrad([parameter], lr=2.0, eps=36.0).step()
    moved = torch.zeros_like(before)
    moved[2] = -1.6
    torch.testing.assert_close(parameter.detach() - before, moved)


def test_groups_have_their_own_settings_and_schedulers_work() -> None:
    first, second = table(2, 2), table(2, 2)
    groups = [{"params": [first], "eps": 1e-12}, {"params": [second], "lr": 1.0, "eps": 18.0}]
    optimizer = RowAdagrad(groups, lr=0.5)
    scheduler = LambdaLR(optimizer, lambda step: 1 - step / 2)
    moved = []
    for _ in range(2):
        before = [first.detach().clone(), second.detach().clone()]
        for parameter in (first, second):
            set_gradient(parameter, [0], [[8.0, 0.0]])
        optimizer.step()
        scheduler.step()
        moved.append([(then - now)[0, 0].item() for then, now in zip(before, (first, second), strict=True)])
    # Mean squares of 32, then 64.
    expected = [[4 / 32**0.5, 8 / 50**0.5], [2 / 64**0.5, 4 / 82**0.5]]
    assert moved == [pytest.approx(each) for each in expected]


def test_resumes_exactly() -> None:
    def step(parameter: nn.Parameter, optimizer: RowAdagrad) -> None:
        optimizer.zero_grad()
        embedding(torch.tensor([1, 1, 3]), parameter, sparse=True).pow(2).sum().backward()
        optimizer.step()

    parameter = table(4, 2)
    optimizer = RowAdagrad([parameter], lr=0.2, eps=0.5)
    step(parameter, optimizer)
    other = nn.Parameter(parameter.detach().clone())
    resumed = RowAdagrad([other])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(parameter, optimizer)
    step(other, resumed)
    assert torch.equal(parameter, other)


def test_closure_and_parameters_without_a_gradient() -> None:
    used, idle = table(3, 2), table(3, 2)
    before = idle.detach().clone()
    optimizer = RowAdagrad([used, idle], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = embedding(torch.tensor([1]), used, sparse=True).square().sum()
        loss.backward()
        return loss

    expected = used.detach()[1].square().sum()
    torch.testing.assert_close(optimizer.step(closure).detach(), expected)
    assert used.detach()[1].square().sum() < 0.99 * expected
    assert torch.equal(idle, before)


def test_refuses_dense_gradients() -> None:
    parameter = table(3, 2)
    parameter.square().sum().backward()
    with pytest.raises(ValueError, match=r"RowAdagrad takes sparse gradients only, but a parameter of shape \(3, 2\)"):
        RowAdagrad([parameter]).step()


def test_refuses_gradients_that_are_sparse_in_more_than_rows() -> None:
    parameter = table(3, 2)
    parameter.grad = torch.ones(3, 2, dtype=torch.float64).to_sparse()
    with pytest.raises(ValueError, match="sparse in rows, not in 2 dimensions"):
        RowAdagrad([parameter]).step()


def test_refuses_a_bound_that_is_not_positive() -> None:
    for bound in (0.0, float("nan")):
        with pytest.raises(ValueError, match=f"RowSGD: max_row_norm={bound} must be positive"):
            RowSGD([table(2, 2)], max_row_norm=bound)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "RowAdagrad: lr=-1.0 must be a number from 0 on"),
        ({"lr": float("inf")}, "RowAdagrad: lr=inf must"),
        ({"eps": 0.0}, "RowAdagrad: eps=0.0 must be a positive number"),
        ({"eps": float("nan")}, "RowAdagrad: eps=nan must"),
    ],
)
def test_refuses_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RowAdagrad([table(2, 2)], **settings)


@pytest.mark.parametrize("found", [RowAdagrad, RowSGD])
def test_have_short_names(found: type[Optimizer]) -> None:
    assert optimizer_class(found.__name__) is found
