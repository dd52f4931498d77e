import pytest
import torch
from torch import Tensor, nn

from callbacks.sampling import evaluating, forked_rng, run_seed

CPU = torch.device("cpu")


def draw(*key: int) -> Tensor:
    with forked_rng(CPU, *key):
        return torch.randn(5)


def test_draws_depend_on_the_whole_key_only() -> None:
    torch.manual_seed(0)
    first = draw(1, 2)
    torch.manual_seed(9)
    assert torch.equal(draw(1, 2), first)
    for other in ((1, 3), (2, 1), (1,), (1, 2, 0)):
        assert not torch.equal(draw(*other), first)


def test_the_random_state_outside_is_untouched() -> None:
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    draw(1)
    assert torch.equal(torch.randn(3), expected)


def test_modes_come_back_also_after_an_error() -> None:
    module = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    module[1].eval()

    def fail() -> None:
        with evaluating(module):
            assert not any(part.training for part in module.modules())
            assert not torch.is_grad_enabled()
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert [part.training for part in module.modules()] == [True, True, False]
    assert torch.is_grad_enabled()


def test_seed_is_the_one_of_seed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert run_seed() == 0
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert run_seed() == 7
