from pathlib import Path

import pytest
import torch
from sklearn.metrics import silhouette_score

from callbacks import ClusterAgreement
from tests.callbacks.items import Catalogue, random_vectors, validate
from tests.callbacks.modules import lightning_noise

pytestmark = lightning_noise

N, K = 120, 4
ITEMS = [f"book {number}" for number in range(N)]
LABELS = torch.arange(N) % K
NAMES = ["history", "poetry", "physics", "music"]


def judged(
    folder: Path, vectors: torch.Tensor, labels: torch.Tensor | None = LABELS, callback: ClusterAgreement | None = None
) -> tuple[float, float]:
    data = Catalogue(labels=labels, label_names=NAMES)
    logged = validate(folder, callback or ClusterAgreement(), ITEMS[: len(vectors)], vectors, data)
    return logged["val/adjusted_rand"], logged["val/silhouette"]


def test_clusters_that_are_the_labels(tmp_path: Path) -> None:
    vectors = 10 * torch.eye(K)[LABELS] + 0.1 * random_vectors(N, K)
    rand, silhouette = judged(tmp_path, vectors)
    assert rand == 1
    assert silhouette == pytest.approx(silhouette_score(vectors.numpy(), LABELS.numpy()), abs=1e-5)
    assert silhouette > 0.95


def test_clusters_that_are_others(tmp_path: Path) -> None:
    rand, silhouette = judged(tmp_path, 10 * torch.eye(K)[torch.arange(N) // 30] + 0.1 * random_vectors(N, K))
    assert rand == pytest.approx(0, abs=0.05)
    assert silhouette < 0


def test_a_part_is_the_same_each_time(tmp_path: Path) -> None:
    vectors = torch.eye(K)[LABELS] + 0.6 * random_vectors(N, K)
    first, again = (judged(tmp_path, vectors, callback=ClusterAgreement(60)) for _ in range(2))
    assert first == again != judged(tmp_path, vectors, callback=ClusterAgreement(60, seed=1))


def test_labels_there_must_be(tmp_path: Path) -> None:
    vectors = random_vectors(N, 2)
    with pytest.raises(ValueError, match="ClusterAgreement needs a datamodule with `labels`, which Catalogue doesn't"):
        judged(tmp_path, vectors, None)
    with pytest.raises(ValueError, match="the datamodule's labels are 120, the module's items 60"):
        judged(tmp_path, vectors[:60])
    with pytest.raises(ValueError, match="at least 2 labels and fewer than items, got 1 of 120"):
        judged(tmp_path, vectors, torch.zeros(N, dtype=torch.int64))
    with pytest.raises(ValueError, match="labels go from 0 to 4, its label_names are 4"):
        judged(tmp_path, vectors, torch.arange(N) % 5)


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="num_points must be at least 3, got 2"):
        ClusterAgreement(2)
