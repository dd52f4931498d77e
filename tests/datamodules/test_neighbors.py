"""Points turned into the distribution of their neighbors."""

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import squareform
from sklearn.datasets import load_digits
from sklearn.manifold._t_sne import _joint_probabilities
from sklearn.manifold._utils import _binary_search_perplexity
from sklearn.metrics.pairwise import euclidean_distances

from datamodules import NeighborsDataModule, neighbors
from datamodules.neighbors import calibrate, neighbor_weights


def some_points(size: int = 300, dim: int = 5) -> NDArray[np.float64]:
    """Points on very different scales."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(size, dim)) * np.exp(3 * generator.normal(size=(size, 1)))


def ready(*args: Any, **kwargs: Any) -> NeighborsDataModule:
    module = NeighborsDataModule(*args, **kwargs)
    module.setup("fit")
    return module


def entropies(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)


@pytest.mark.parametrize("perplexity", [1.5, 5.0, 30.0, 250.0, 298.9])
def test_entropy_of_each_row_is_the_perplexity(perplexity: float) -> None:
    p = neighbor_weights(some_points(), perplexity).toarray() * 300
    assert np.abs(entropies(p) - math.log(perplexity)).max() < 1e-5
    assert np.allclose(p.sum(axis=1), 1, atol=1e-12)
    assert (np.diag(p) == 0).all()


def test_kernel_is_gaussian() -> None:
    """log p(j|i) is linear in the squared distance."""
    points = some_points(40)
    p = neighbor_weights(points, 10.0).toarray() * 40
    squared = euclidean_distances(points, squared=True)
    for row in range(40):
        seen = p[row] > 1e-12
        slope, offset = np.polyfit(squared[row, seen], np.log(p[row, seen]), 1)
        assert slope < 0
        assert np.allclose(np.log(p[row, seen]), slope * squared[row, seen] + offset, atol=1e-6)


@pytest.mark.parametrize("perplexity", [5.0, 30.0])
def test_same_as_scikit_learn(perplexity: float) -> None:
    points = load_digits().data[:400]
    squared = euclidean_distances(points, squared=True).astype(np.float32)
    theirs = _binary_search_perplexity(squared, perplexity, 0)
    assert np.allclose(neighbor_weights(points, perplexity).toarray() * 400, theirs, atol=1e-5)
    joint = squareform(_joint_probabilities(squared, perplexity, 0))
    ours = neighbor_weights(points, perplexity, symmetric=True).toarray()
    assert np.allclose(ours, joint, atol=1e-7)
    assert np.abs(ours - joint).max() < 1e-3 * joint.max()
    assert np.array_equal(ours, ours.T)


def test_nearest_neighbors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    points = some_points()
    dense = neighbor_weights(points, 5.0).toarray()
    monkeypatch.setattr(neighbors, "DENSE", 100)
    sparse = neighbor_weights(points, 5.0)
    assert np.diff(sparse.indptr).tolist() == [16] * 300
    p = sparse.toarray() * 300
    assert np.abs(entropies(p) - math.log(5)).max() < 1e-5
    squared = euclidean_distances(points, squared=True)
    for row in range(300):
        assert set(np.flatnonzero(p[row])) == set(np.argsort(squared[row], kind="stable")[1:17]) - {row}
    # What is beyond 3 * perplexity neighbors has little weight.
    beyond = np.where(p > 0, 0, dense * 300).sum(axis=1)
    assert 0 < beyond.mean() < 0.05
    # With 3 * perplexity >= N - 1 all the others are near.
    nearest = neighbor_weights(points, 120.0).toarray()
    monkeypatch.undo()
    assert np.allclose(nearest, neighbor_weights(points, 120.0).toarray(), rtol=1e-4, atol=1e-12)


def test_equal_points() -> None:
    """A pair of twins is fine; of 10 equal points none can have 3 neighbors only, nor who has them as its nearest."""
    twins = np.repeat(some_points(50), 2, axis=0)
    p = neighbor_weights(twins, 5.0).toarray() * 100
    assert np.abs(entropies(p) - math.log(5)).max() < 1e-5
    assert p[0, 1] == p[0].max()
    points = np.concatenate([np.ones((10, 2)), some_points(50, 2)])
    with pytest.warns(UserWarning, match=r"11 point\(s\) have more equally near neighbors than perplexity 3 says"):
        p = neighbor_weights(points, 3.0).toarray() * 60
    assert np.allclose(p[0, 1:10], 1 / 9)
    assert np.isfinite(p).all()
    with pytest.warns(UserWarning, match="20 point"):
        assert np.allclose(neighbor_weights(np.zeros((20, 3)), 3.0).toarray() * 380, 1 - np.eye(20))


def test_tolerance_is_kept_far_from_the_origin() -> None:
    distances = np.random.default_rng(0).random((4, 50)) * 1e-9 + 1e6
    p = calibrate(distances, 10.0)
    assert np.abs(entropies(p) - math.log(10)).max() < 1e-5


class TestDigits:
    """The default."""

    def test_attributes(self) -> None:
        module = ready()
        assert module.points.shape == (1797, 64)
        assert module.items == [str(row) for row in range(1797)]
        assert module.counts.dtype == torch.float64
        assert torch.allclose(module.counts, torch.ones(1797, dtype=torch.float64))
        assert module.label_names == [str(digit) for digit in range(10)]
        assert module.labels is not None
        assert torch.equal(module.labels, torch.from_numpy(load_digits().target))
        assert module.distribution.conditional_entropy == pytest.approx(math.log(30), abs=1e-5)

    def test_subset(self) -> None:
        module = ready(subset=600)
        rows = [int(item) for item in module.items]
        assert rows == sorted(set(rows))
        assert len(rows) == 600
        assert rows[-1] > 1500
        assert np.array_equal(module.points, load_digits().data[rows])
        assert module.labels is not None
        assert module.labels.tolist() == load_digits().target[rows].tolist()
        assert ready(subset=600, seed=1).items != module.items

    def test_full_batches_and_validation_on_the_same(self) -> None:
        module = ready(subset=100, steps_per_epoch=3)
        batches = list(module.train_dataloader())
        assert len(batches) == 3
        assert batches[0]["entropy"].item() == pytest.approx(math.log(30), abs=1e-5)
        (val,) = module.val_dataloader()
        for name, part in module.pairs.items():
            assert torch.equal(part, val[name])
            assert torch.equal(part, batches[0][name])
        assert len(val["center"]) == 100 * 99

    def test_symmetric(self) -> None:
        module = ready(subset=100, symmetric=True)
        p = module.distribution
        table = np.zeros((100, 100))
        table[p.center, p.context] = p.weight
        assert np.allclose(table, table.T, rtol=1e-12)
        assert module.counts.sum().item() == pytest.approx(100)
        assert module.counts.std() > 0.1


def test_points_from_python() -> None:
    points = some_points(60)
    for given in (points, torch.from_numpy(points), points.astype(np.float32), points.tolist()):
        module = ready(points=given, labels=["b", "a"] * 30, perplexity=5)
        assert np.allclose(module.points, points, rtol=1e-6)
        assert module.points.dtype == np.float64
        assert module.label_names == ["a", "b"]
        assert module.labels is not None
        assert module.labels.tolist() == [1, 0] * 30


@pytest.mark.parametrize("name", ["points.npy", "points.npz", "points.csv", "points.csv.gz", "points.jsonl"])
def test_files(name: str, tmp_path: Path) -> None:
    import gzip
    import json

    points, classes = some_points(60, 3), np.array(["b", "a"] * 30)
    rows = list(zip(points.tolist(), classes.tolist(), strict=True))
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, points)
    elif name.endswith("npz"):
        np.savez(path, points=points, kind=classes)
    elif name.endswith("jsonl"):
        path.write_text("".join(json.dumps({"x": x, "kind": kind, "y": y, "z": z}) + "\n" for (x, y, z), kind in rows))
    else:
        text = "x,kind,y,z\n" + "".join(f"{x!r},{kind},{y!r},{z!r}\n" for (x, y, z), kind in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    label_column = None if name.endswith("npy") else "kind"
    module = ready(str(path), label_column=label_column, perplexity=5)
    assert np.array_equal(module.points, points)
    if label_column:
        assert module.label_names == ["a", "b"]
        assert module.labels is not None
        assert module.labels.tolist() == [1, 0] * 30
    else:
        assert module.labels is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"perplexity": 1}, "perplexity is 1, but has to be above 1"),
        ({"perplexity": 59}, "perplexity 59 needs more than 60 points; there are 60"),
        ({"subset": 0}, "subset is 0"),
        ({"subset": 61}, "subset is 61, but there are 60 points"),
        ({"labels": [1, 2]}, r"there are 60 points, but labels of shape \(2,\)"),
        ({"points": np.zeros(5)}, r"points have to be numbers \(N, D\), but are float64 \(5,\)"),
        ({"points": [["a"]]}, "points have to be numbers"),
        ({"points": None, "labels": [1]}, "labels need points"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(**({"points": some_points(60), "perplexity": 5} | arguments))


def test_bad_values_are_named(tmp_path: Path) -> None:
    points = some_points(60)
    points[[7, 9], 2] = math.nan, math.inf
    message = r"NaN or inf in row 7 \(from 0 on\) and 1 other"
    with pytest.raises(ValueError, match=f"points: {message}"):
        ready(points=points)
    np.save(tmp_path / "bad.npy", points)
    with pytest.raises(ValueError, match=f"bad.npy: {message}"):
        ready(str(tmp_path / "bad.npy"))


def test_wrong_files_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", point=some_points(60), kind=np.zeros(60))
    with pytest.raises(
        ValueError, match="there is no array 'points'; did you mean 'point'\\?; there are 'point', 'kin"
    ):
        ready(str(tmp_path / "a.npz"))
    (tmp_path / "b.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"b.npy: not a file of numpy arrays"):
        ready(str(tmp_path / "b.npy"))
    with pytest.raises(FileNotFoundError, match=r"c.npy' does not exist; did you mean '.*b.npy'"):
        ready(str(tmp_path / "c.npy"))
    (tmp_path / "d.csv").write_text("x,kind\n1,a\n2,b\n")
    with pytest.raises(ValueError, match=r"d.csv, line 2: column 'kind' holds 'a', which is no number"):
        ready(str(tmp_path / "d.csv"))
    with pytest.raises(ValueError, match=r"there is no column 'kimd'; did you mean 'kind'"):
        ready(str(tmp_path / "d.csv"), label_column="kimd")
    (tmp_path / "e.csv").write_text(",x\n0,5\n1,6\n")
    with pytest.raises(ValueError, match=r"e.csv, line 1: column 1 of the numbers has no name"):
        ready(str(tmp_path / "e.csv"))


def test_all_arguments_are_documented() -> None:
    documented = inspect.getdoc(NeighborsDataModule) or ""
    missing = [name for name in inspect.signature(NeighborsDataModule).parameters if f"    {name}:" not in documented]
    assert missing == []
