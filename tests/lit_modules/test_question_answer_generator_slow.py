"""QuestionAnswerGenerator with two processes against one."""

import pytest

from tests.lit_modules.asking_processes import CASES
from tests.processes import Results, assert_two_equal_one, results_of


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """(case, devices, rank) to what that process had at the end."""
    return results_of("asking_processes.py", tmp_path_factory.mktemp("processes"), CASES, timeout=240)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(results: Results, case: str) -> None:
    one = assert_two_equal_one(results, case, logged=1e-4)
    assert one["val/perplexity"] > 1
    assert {"val/answer_f1", "val/question_rouge_l", "val/answer_in_passage"} <= one.keys()
