"""Article 2's claims: a library's shelves from its loans, and SNE and t-SNE on the digits of scikit-learn.

    python -m benchmarks.library_embedding

- library: the embedded library, three seeds. LibraryEmbedding by each cost, what readers walk (article 2's S) between
  6 x 5 x 4 shelves, against other arrangements of the same shelves, whether the subjects come out as clusters, and
  whether popular books stand near the middle.
- digits: 1,797 digits in two dimensions at perplexity 30, with their trustworthiness, beside scikit-learn's
  PCA and TSNE.

Writes docs/results/library_embedding.md and digits_maps.png. Some six minutes on two cores; `--quick` shows in seconds
that everything works, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import seed_everything
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.metrics import adjusted_rand_score, silhouette_score

from benchmarks.reporting import machine, markdown_table, plus_minus
from benchmarks.runs import bare_trainer, be_quiet
from datamodules import BorrowingDataModule, NeighborsDataModule
from lit_modules import LibraryEmbedding

Points = NDArray[np.floating[Any]]
PERPLEXITY = 30
# By name, options of LibraryEmbedding.
LIBRARY: dict[str, dict[str, Any]] = {
    "gaussian, d = 3": {"cost": "gaussian", "dim": 3},
    "student, d = 3": {"cost": "student", "dim": 3},
    "dot, d = 3": {"cost": "dot", "dim": 3},
    "gaussian, d = 16": {"cost": "gaussian", "dim": 16},
    "dot, d = 16": {"cost": "dot", "dim": 16},
}
SHELVES = {"shelves": [6, 5, 4], "swaps": 60_000}


def trained(data: Any, steps: int, seed: int, **options: Any) -> LibraryEmbedding:
    """LibraryEmbedding after full-batch Adam with a linearly falling learning rate."""
    seed_everything(seed, verbose=False)
    model = LibraryEmbedding(lr_schedule="linear", **options)
    bare_trainer([], max_steps=steps, max_epochs=-1, limit_val_batches=0).fit(model, datamodule=data)
    return model


# ---- The library ----


def library_row(data: BorrowingDataModule, steps: int, seed: int, options: dict[str, Any]) -> dict[str, float]:
    """All that is measured of one training."""
    model = trained(data, steps, seed, learning_rate=0.03, **SHELVES, **options)
    vectors, labels = model.item_vectors()[1].double().numpy(), data.labels.numpy()
    costs = model.floor_plan(data.pairs, seed=seed).costs
    clusters = KMeans(len(data.label_names), n_init=10, random_state=seed).fit_predict(vectors)
    length = np.linalg.norm(vectors - (0 if options["cost"] == "dot" else vectors.mean(axis=0)), axis=1)
    return {
        "gap": model.trainer.callback_metrics["train/gap"].item(),
        "rand": adjusted_rand_score(labels, clusters),
        "silhouette": silhouette_score(vectors, labels),
        "spearman": spearmanr(data.counts.numpy(), length).statistic,
        **costs,
    }


def library_tables(steps: int, seeds: list[int]) -> list[str]:
    """The embeddings, then the arrangements."""
    data = BorrowingDataModule(val_fraction=0)
    data.setup("fit")
    found = {
        name: [library_row(data, steps, seed, options) for seed in seeds]
        for name, options in track(LIBRARY.items(), "library", console=Console(stderr=True))
    }

    def line(name: str, columns: dict[str, int]) -> list[str]:
        return [name, *(plus_minus([row[column] for row in found[name]], digits) for column, digits in columns.items())]

    learned = {"gap": 3, "rand": 2, "silhouette": 2, "spearman": 2}
    headings = ["embedding", "S - H(J\\|I), nats", "adjusted Rand index", "silhouette", "popularity against distance"]
    walked = dict.fromkeys(("random", "alphabetical", "by popularity", "embedding", "after swaps"), 2)
    return [
        markdown_table(headings, [line(name, learned) for name in found]),
        markdown_table(["embedding", *walked], [line(name, walked) for name in found]),
    ]


# ---- Digits ----


def digit_maps(steps: int, subset: int | None, seed: int) -> tuple[dict[str, Points], NeighborsDataModule]:
    """Positions (N, 2) by method, and the digits."""
    data = NeighborsDataModule(subset=subset, perplexity=PERPLEXITY)
    data.setup("fit")

    def ours(cost: str) -> Points:
        # Larger rates (0.1 to 0.3 for "student") tear clusters apart.
        model = trained(data, steps, seed, cost=cost, dim=2, learning_rate=0.05, initial_scale=0.01)
        return model.item_vectors()[1].numpy()

    methods: dict[str, Callable[[], Points]] = {
        "PCA (scikit-learn)": lambda: PCA(2).fit_transform(data.points),
        "SNE: cost gaussian": lambda: ours("gaussian"),
        "the article's t-SNE: cost student": lambda: ours("student"),
        "TSNE (scikit-learn)": lambda: TSNE(perplexity=PERPLEXITY, random_state=seed).fit_transform(data.points),
    }
    console = Console(stderr=True)
    return {name: make() for name, make in track(methods.items(), "digits", console=console)}, data


def digits_table(maps: dict[str, Points], data: NeighborsDataModule) -> str:
    """Trustworthiness, and how much of the picture the digits fill."""
    lines = []
    for name, points in maps.items():
        trust = trustworthiness(data.points, points, n_neighbors=10)
        lines.append([name, f"{trust:.3f}", f"{silhouette_score(points, data.labels.numpy()):.2f}"])
    return markdown_table(["map of the digits", "trustworthiness, 10 neighbors", "silhouette of the classes"], lines)


def draw_maps(path: Path, maps: dict[str, Points], data: NeighborsDataModule) -> None:
    """SNE's crowding beside t-SNE."""
    figure = Figure(figsize=(4 * len(maps), 4), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for number, (name, points) in enumerate(maps.items(), start=1):
        axes = figure.add_subplot(1, len(maps), number)
        axes.scatter(points[:, 0], points[:, 1], c=data.labels.numpy(), cmap="tab10", s=4, linewidths=0)
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
        axes.set_aspect("equal", adjustable="datalim")
    canvas.print_png(str(path))


def main(arguments: list[str] | None = None) -> None:
    """Measure, then write and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quick", action="store_true", help="few steps and one seed, in OUT/quick")
    args = parser.parse_args(arguments)
    steps, subset = (1000, 750), None
    if args.quick:
        steps, subset, args.seeds, args.out = (20, 20), 200, [0], args.out / "quick"
    be_quiet()
    args.out.mkdir(parents=True, exist_ok=True)
    tables = library_tables(steps[0], args.seeds)
    maps, data = digit_maps(steps[1], subset, args.seeds[0])
    draw_maps(args.out / "digits_maps.png", maps, data)
    origin = f"Measured {datetime.date.today()} on {machine()}."
    written_by = "Written by `python -m benchmarks.library_embedding`; edits get lost."
    text = ["# LibraryEmbedding: measured", written_by, origin, *tables, digits_table(maps, data)]
    (args.out / "library_embedding.md").write_text("\n\n".join(text) + "\n")
    Console().print(Markdown("\n\n".join(text)))


if __name__ == "__main__":
    main()
