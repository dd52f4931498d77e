"""Two processes on the halves of a batch equal one process on the whole."""

from typing import Any

import pytest
import torch

from lit_modules.parts.distributed import (
    broadcast_buffers,
    gather_rows,
    global_batch,
    mean_over_ranks,
    own_rows,
    rank_and_world_size,
)
from tests.lit_modules.two_processes import AUTOENCODERS, CASES
from tests.processes import Results, difference, results_of


def test_one_process_is_the_identity() -> None:
    x = torch.randn(6, 2, requires_grad=True)
    assert rank_and_world_size() == (0, 1)
    assert global_batch(x) is x
    assert gather_rows(x) is x
    assert torch.equal(own_rows(x), x)
    assert torch.equal(mean_over_ranks(x), x)
    assert not mean_over_ranks(x).requires_grad
    broadcast_buffers(torch.nn.BatchNorm1d(2))


def test_rows_must_divide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_modules.parts.distributed.rank_and_world_size", lambda: (1, 2))
    assert torch.equal(own_rows(torch.arange(6)), torch.tensor([3, 4, 5]))
    with pytest.raises(ValueError, match="5 rows does not divide among 2 processes"):
        own_rows(torch.arange(5))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """(case, devices, rank) to what that process had at the end."""
    folder = tmp_path_factory.mktemp("two_processes")
    return results_of("two_processes.py", folder, CASES, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_ranks_are_bit_equal(results: Any, case: str) -> None:
    """Batch norm's running statistics included."""
    first, second = results[case, 2, 0], results[case, 2, 1]
    assert difference(first["state"], second["state"]) == 0
    assert difference(first["logged"], second["logged"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if not case.endswith("images")])
def test_two_processes_equal_one(results: Any, case: str) -> None:
    assert difference(results[case, 1, 0]["state"], results[case, 2, 0]["state"]) < 1e-5
    assert difference(results[case, 1, 0]["logged"], results[case, 2, 0]["logged"]) < 1e-4
    assert ("val/reconstruction" in results[case, 1, 0]["logged"]) == (case in AUTOENCODERS)
