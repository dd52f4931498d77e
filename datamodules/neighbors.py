"""Points in many dimensions, as the distribution of which point is near which: what SNE and t-SNE are trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from numpy.typing import NDArray

from datamodules.checks import at_least, nearest
from datamodules.loading import random_generator
from datamodules.pairs import PairDataModule, PairDistribution, Part
from datamodules.tables import column_names, read_numbers, read_texts

# Above so many points only the nearest ones count: all pairs of 2,000 points are 4 million.
DENSE = 2000
_Labeled = tuple[NDArray[np.float64], NDArray[Any] | None]


class NeighborsDataModule(PairDataModule):
    """Batches of p(i, j) = p(j | i) / N of N points, p(j | i) a Gaussian kernel around point i.

    The article's source (c), as SNE has it (Hinton and Roweis, 2002): p(j | i) is in proportion to
    exp(-beta_i ||x_i - x_j||²), j != i, with beta_i such that H(J | I = i) = log(perplexity). Up to 2,000 points
    all pairs count; of more, the 3 * perplexity nearest neighbors of each (van der Maaten, 2014).

    Validation is on the same p: nothing is held out, and the cost on p is what is wanted. A batch holds complete rows,
    as `PairDistribution.batch` says.

    Args:
        source: "digits" (1,797 digits of 8 x 8 pixels that come with scikit-learn), or the path of an .npy file
            (N, D), an .npz file that holds such an array as "points", or a CSV file or a file of JSON lines with a
            number in each column, .gz or not. Not read if there are `points`.
        points: (N, D), from Python: an array, a tensor or lists of numbers.
        labels: (N,), from Python: a class a point, numbers or texts.
        label_column: name of the column, or of the array in an .npz file, that holds the classes; None if there is
            none.
        subset: use only so many points, the first of a shuffle by `seed`.
        perplexity: how many neighbors a point has, in a manner of speaking: exp of the entropy of p(. | i).
        symmetric: make it (p(i, j) + p(j, i)) / 2, as t-SNE has it.
        batch_size: centers i in a batch of one process; None for all pairs in each batch.
        steps_per_epoch: training batches in an epoch if each holds all pairs.
        seed: seed of the subset and of the order of the centers.

    Attributes:
        items: row numbers in the source, from 0 on, as texts.
        counts: (N,) float64, N p(i): 1 each unless p is symmetric.
        labels: (N,) int64, the class of each point; None where there are no classes.
        label_names: the classes.
        points: (N, D) float64.
        pairs: all pairs as one batch.

    Raises:
        ValueError: for a wrong argument, and later for points that are no finite numbers, or too few.
        FileNotFoundError: later, where there is no such file.
    """

    def __init__(
        self,
        source: str = "digits",
        *,
        points: Any = None,
        labels: Any = None,
        label_column: str | None = None,
        subset: int | None = None,
        perplexity: float = 30.0,
        symmetric: bool = False,
        batch_size: int | None = None,
        steps_per_epoch: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, steps_per_epoch=steps_per_epoch, seed=seed)
        at_least("subset", subset, 1)
        if perplexity <= 1:
            raise ValueError(f"perplexity is {perplexity}, but has to be above 1")
        if points is None and labels is not None:
            raise ValueError("labels need points; for the labels of a file give label_column")
        self.source = source
        self.label_column = label_column
        self.subset = subset
        self.perplexity = perplexity
        self.symmetric = symmetric
        self.points = np.zeros((0, 0))
        self._given = None if points is None else (np.asarray(points), None if labels is None else np.asarray(labels))

    def build(self) -> dict[Part, PairDistribution]:
        """Reads the points and finds their neighbors."""
        points, labels = self._checked(*(_read(self.source, self.label_column) if self._given is None else self._given))
        rows = self._rows(len(points))
        self.points = points[rows]
        self.items = [str(row) for row in rows]
        if labels is not None:
            names, numbers = np.unique(labels[rows], return_inverse=True)
            self.labels, self.label_names = torch.from_numpy(numbers), [str(name) for name in names]
        distribution = PairDistribution(neighbor_weights(self.points, self.perplexity, symmetric=self.symmetric))
        self.counts = torch.from_numpy(distribution.center_marginal * len(rows))
        return {"train": distribution, "val": distribution}

    def _checked(self, points: NDArray[Any], labels: NDArray[Any] | None) -> _Labeled:
        where = "points" if self._given is not None else self.source
        if points.ndim != 2 or points.dtype.kind not in "fiub":
            raise ValueError(f"{where}: points have to be numbers (N, D), but are {points.dtype} {points.shape}")
        bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
        if len(bad):
            raise ValueError(f"{where}: NaN or inf in row {bad[0]} (from 0 on) and {len(bad) - 1} other row(s)")
        if labels is not None and labels.shape != (len(points),):
            raise ValueError(f"{where}: there are {len(points)} points, but labels of shape {labels.shape}")
        return points.astype(np.float64), labels

    def _rows(self, total: int) -> NDArray[np.int64]:
        if self.subset is None:
            return np.arange(total)
        if self.subset > total:
            raise ValueError(f"subset is {self.subset}, but there are {total} points")
        order = torch.randperm(total, generator=random_generator(self.seed, "subset")).numpy()
        return np.sort(order[: self.subset])


def neighbor_weights(points: NDArray[np.float64], perplexity: float, *, symmetric: bool = False) -> Any:
    """Returns p(i, j), (N, N), as a sparse array of scipy; see `NeighborsDataModule`.

    Args:
        points: (N, D).
        perplexity: exp of the entropy of each row.
        symmetric: whether to make it so.

    Raises:
        ValueError: too few points for the perplexity.
    """
    import scipy.sparse

    size = len(points)
    if perplexity >= size - 1:
        raise ValueError(f"perplexity {perplexity:g} needs more than {perplexity + 1:g} points; there are {size}")
    distances, neighbors = _distances(points, perplexity)
    conditional = calibrate(distances, perplexity)
    starts = np.arange(0, neighbors.size + 1, neighbors.shape[1])
    joint = scipy.sparse.csr_array((conditional.ravel() / size, neighbors.ravel(), starts), shape=(size, size))
    return ((joint + joint.T) / 2).tocsr() if symmetric else joint


def calibrate(distances: NDArray[np.float64], perplexity: float, tolerance: float = 1e-6) -> NDArray[np.float64]:
    """Returns p(j | i) in proportion to exp(-beta_i distances_ij), the entropy of each row being log(perplexity).

    Each beta_i is found by bisection, all at once. Rows that cannot have so low an entropy, where more than
    `perplexity` neighbors are equally near, get the lowest that they can have, and are warned of.

    Args:
        distances: (N, K), squared, of the neighbors that count.
        perplexity: between 1 and K.
        tolerance: how far an entropy may be off, in nats.

    Returns:
        (N, K); each row sums to 1.
    """
    result = np.empty_like(distances)
    missed = 0
    # So many rows at a time stay in the processor's cache.
    step = max(1, 2**17 // distances.shape[1])
    for start in range(0, len(distances), step):
        rows = slice(start, start + step)
        result[rows], error = _bisect(distances[rows], np.log(perplexity), tolerance)
        missed += int((error > tolerance).sum())
    if missed:
        rank_zero_warn(f"{missed} point(s) have more equally near neighbors than perplexity {perplexity:g} says")
    return result


def _bisect(
    distances: NDArray[np.float64], target: float, tolerance: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns p (R, K) and how far the entropy of each row is above the target."""
    # Neither the nearest neighbor's distance nor the scale changes what can be reached.
    away = distances - distances.min(axis=1, keepdims=True)
    away /= np.maximum(away.mean(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    low, high = np.zeros(len(away)), np.full(len(away), np.inf)
    beta = np.ones(len(away))
    for _ in range(100):
        p = np.exp(-beta[:, None] * away)
        total = p.sum(axis=1)
        error = np.log(total) + beta * (p * away).sum(axis=1) / total - target
        if (np.abs(error) <= tolerance).all():
            break
        low, high = np.where(error > 0, beta, low), np.where(error > 0, high, beta)
        beta = np.where(np.isinf(high), 2 * beta, (low + np.where(np.isinf(high), low, high)) / 2)
    return p / total[:, None], error


def _distances(points: NDArray[np.float64], perplexity: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns the squared distances (N, K) of the neighbors that count, and their numbers."""
    from sklearn.metrics.pairwise import euclidean_distances
    from sklearn.neighbors import NearestNeighbors

    size = len(points)
    if size <= DENSE:
        others = ~np.eye(size, dtype=bool)
        squared = euclidean_distances(points, squared=True)[others].reshape(size, size - 1)
        return squared, np.broadcast_to(np.arange(size), (size, size))[others].reshape(size, size - 1)
    search = NearestNeighbors(n_neighbors=min(size - 1, int(3 * perplexity + 1))).fit(points)
    distances, neighbors = search.kneighbors()
    return distances**2, neighbors


def _read(source: str, label_column: str | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Returns points and labels of a source as they are there."""
    if source == "digits":
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    path = Path(source).expanduser()
    if path.suffix not in (".npy", ".npz"):
        return _read_table(source, label_column)
    if not path.is_file():
        siblings = [str(path.with_name(file.name)) for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"{source!r} does not exist{nearest(source, ['digits', *siblings])}")
    try:
        content = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{source}: not a file of numpy arrays ({error})") from None
    if path.suffix == ".npy":
        return content, None
    with content:
        names = ["points"] if label_column is None else ["points", label_column]
        for name in names:
            if name not in content:
                known = ", ".join(map(repr, content)) or "none"
                raise ValueError(f"{source}: there is no array {name!r}{nearest(name, content)}; there are {known}")
        return content["points"], None if label_column is None else content[label_column]


def _read_table(source: str, label_column: str | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    columns = [name for name in column_names(source) if name != label_column]
    if "" in columns:
        raise ValueError(f"{source}, line 1: column {columns.index('') + 1} of the numbers has no name")
    labels = None if label_column is None else read_texts(source, [label_column])[label_column]
    points = read_numbers(source, columns)
    return points, None if labels is None else np.array(labels.values)[labels.codes]
