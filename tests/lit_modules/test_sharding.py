"""A network split among processes trains, evaluates and is saved as a whole one."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import init_device_mesh

from lit_modules.parts import sharding
from lit_modules.question_answer_generator import QuestionAnswerGenerator
from tests.lit_modules.passage_data import TinyPassages
from tests.lit_modules.split_processes import ARGUMENTS, CASES
from tests.processes import Results, assert_two_equal_one, difference, results_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of what the processes save."""
    return tmp_path_factory.mktemp("split")


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    """(case, devices, rank) to what that process had at the end."""
    return results_of("split_processes.py", folder, CASES, timeout=240)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_with_half_of_the_parameters_each_equal_one(results: Results, case: str) -> None:
    one = assert_two_equal_one(results, case, logged=1e-4)
    assert one["val/perplexity"] > 1
    parameters = results[case, 1, 0]["own"]
    assert all(0.45 * parameters < results[case, 2, rank]["own"] < 0.55 * parameters for rank in (0, 1))


@pytest.mark.slow
def test_resumed_equals_uninterrupted(results: Results) -> None:
    resumed, whole = (results[case, 2, 0] for case in ("resumed", "uninterrupted"))
    assert difference(resumed["state"], whole["state"]) == 0
    assert difference(resumed["logged"], whole["logged"]) == 0


@pytest.mark.slow
def test_the_checkpoint_is_one_of_a_whole_network(results: Results, folder: Path) -> None:
    """It has the optimizer's state too: one process goes on with it in the next epoch."""
    saved = [torch.load(folder / f"uninterrupted-{devices}.ckpt", weights_only=True) for devices in (1, 2)]
    module = QuestionAnswerGenerator.load_from_checkpoint(folder / "uninterrupted-2.ckpt", weights_only=True)
    assert difference(dict(module.state_dict()), results["uninterrupted", 2, 0]["state"]) == 0
    one, two = (checkpoint["optimizer_states"][0]["state"] for checkpoint in saved)
    assert one.keys() == two.keys()
    assert max((one[n]["momentum_buffer"] - two[n]["momentum_buffer"]).abs().max().item() for n in one) < 1e-5


def test_settings_that_would_not_exchange_gradients_are_refused(trainer: Any) -> None:
    """Lightning's defaults, on one machine."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
    mesh = {"data_parallel": mesh["data_parallel"], "tensor_parallel": _OfTwo()}
    with pytest.raises(ValueError, match=re.escape("set trainer.strategy.data_parallel_size to the number of")):
        sharding.split(torch.nn.Linear(2, 2), [], mesh)


class _OfTwo:
    def size(self) -> int:
        return 2


def test_evaluating_a_split_network_is_refused(trainer: Any) -> None:
    strategy = ModelParallelStrategy(1, 1, save_distributed_checkpoint=False)
    with pytest.raises(ValueError, match=r"for training only: set trainer.strategy to auto or ddp"):
        trainer(strategy=strategy).validate(QuestionAnswerGenerator(**ARGUMENTS), TinyPassages(), verbose=False)


def test_a_network_that_is_not_split_stays_as_it_is() -> None:
    network = torch.nn.Linear(2, 2)
    before = dict(network.named_parameters())
    sharding.gather(network, lambda: pytest.fail("called"))
    sharding.scatter(network)
    assert all(before[name] is value for name, value in network.named_parameters())
