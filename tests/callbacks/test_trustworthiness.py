from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from callbacks import Trustworthiness
from tests.callbacks.items import Catalogue, random_vectors, validate
from tests.callbacks.modules import lightning_noise

pytestmark = lightning_noise

DIGITS = load_digits().data[:300]
ITEMS = [str(number) for number in range(len(DIGITS))]


def judged(folder: Path, callback: Trustworthiness, vectors: Any, points: Any = DIGITS) -> float:
    vectors = torch.as_tensor(vectors, dtype=torch.float32)
    return validate(folder, callback, ITEMS[: len(vectors)], vectors, Catalogue(points=points))["val/trustworthiness"]


def test_it_is_scikit_learns(tmp_path: Path) -> None:
    plane = PCA(2, random_state=0).fit_transform(DIGITS)
    expected = trustworthiness(DIGITS, plane, n_neighbors=10)
    assert judged(tmp_path, Trustworthiness(), plane) == pytest.approx(expected, abs=1e-4)
    assert 0.75 < expected < 0.9


def test_a_true_map_and_one_without_meaning(tmp_path: Path) -> None:
    assert judged(tmp_path, Trustworthiness(), 3 * DIGITS + 1) == pytest.approx(1, abs=1e-4)
    assert judged(tmp_path, Trustworthiness(), random_vectors(len(DIGITS), 2)) == pytest.approx(0.5, abs=0.05)


def test_a_part_is_the_same_each_time(tmp_path: Path) -> None:
    noisy = DIGITS + 4 * random_vectors(*DIGITS.shape).numpy()
    state = np.random.get_state()[1].copy()
    first, again = (judged(tmp_path, Trustworthiness(num_points=100), noisy) for _ in range(2))
    assert first == again != judged(tmp_path, Trustworthiness(num_points=100, seed=1), noisy)
    assert first == pytest.approx(judged(tmp_path, Trustworthiness(), noisy), abs=0.05)
    assert (np.random.get_state()[1] == state).all()


def test_points_there_must_be(tmp_path: Path) -> None:
    vectors = random_vectors(30, 2)
    with pytest.raises(ValueError, match="Trustworthiness needs a datamodule with `points`, which Catalogue doesn't"):
        validate(tmp_path, Trustworthiness(), ITEMS[:30], vectors)
    with pytest.raises(ValueError, match="the datamodule's points are 300, the module's items 30"):
        judged(tmp_path, Trustworthiness(), vectors)
    with pytest.raises(ValueError, match="10 neighbors take more than twice as many points, got 20"):
        judged(tmp_path, Trustworthiness(), vectors[:20], DIGITS[:20])


@pytest.mark.parametrize("arguments", [{"n_neighbors": 0}, {"num_points": 20}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="n_neighbors must be at least 1 and num_points more than twice that"):
        Trustworthiness(**arguments)
