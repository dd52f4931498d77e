"""Images/s of ImageDataModule against the usual Dataset + DataLoader + transforms, on 28x28 and batch 256.

    python -m benchmarks.image_loading

Both sides give shuffled float batches in [-1, 1] on the training device, from the same 60,000 pictures in memory
(the 5,000 embedded digits, twelve times). The other side is what torchvision's MNIST class with ToTensor and
Normalize does for every picture, written out here because torchvision is no dependency; its workers are started and
warm before the clock runs. The sides take turns, and the median of the rounds counts. About a minute on two cores.
"""

import argparse
import datetime
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.reporting import machine
from datamodules import ImageDataModule
from datamodules.image_sources import open_source
from datamodules.pixels import PixelFormat

BATCH_SIZE = 256
REPEATS = 12


class UsualDigits(Dataset[tuple[Tensor, int]]):
    """Digits as torchvision's MNIST with Compose([ToTensor(), Normalize(0.5, 0.5)]) gives them."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self._images = images
        self._labels = labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self._images[row].numpy())
        return normalize(to_tensor(image), [0.5], [0.5]), int(self._labels[row])


def to_tensor(image: Image.Image) -> Tensor:
    """A picture as (C, H, W) float32 in [0, 1]."""
    pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
    pixels = pixels.view(image.size[1], image.size[0], len(image.getbands()))
    return pixels.permute((2, 0, 1)).contiguous().to(torch.float32).div(255)


def normalize(image: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """(image - mean) / std for each channel."""
    image = image.clone()
    mean_C11 = torch.as_tensor(mean, dtype=image.dtype).view(-1, 1, 1)
    std_C11 = torch.as_tensor(std, dtype=image.dtype).view(-1, 1, 1)
    return image.sub_(mean_C11).div_(std_C11)


def usual(images: NDArray[np.uint8], labels: NDArray[np.int64], workers: int) -> DataLoader[tuple[Tensor, int]]:
    """The loader that everybody writes."""
    return DataLoader(
        UsualDigits(torch.from_numpy(images), torch.from_numpy(labels)),
        batch_size=BATCH_SIZE,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def ours(images: NDArray[np.uint8], labels: NDArray[np.int64], folder: Path) -> ImageDataModule:
    """The same pictures in an ImageDataModule."""
    np.savez(folder / "digits.npz", images=images, labels=labels)
    module = ImageDataModule(
        str(folder / "digits.npz"), val_fraction=0, batch_size=BATCH_SIZE, pin_memory=torch.cuda.is_available()
    )
    module.setup("fit")
    return module


def seconds(epoch: Callable[[], Iterator[Tensor]], device: torch.device) -> float:
    """Seconds for one epoch; all of its batches have arrived on the device when the clock stops."""
    start = time.perf_counter()
    num_images, total = 0, torch.zeros((), device=device)
    for images in epoch():
        num_images += len(images)
        total += images[0, 0, 0, 0]
    total.item()
    assert num_images >= 5000 * REPEATS - BATCH_SIZE
    return (time.perf_counter() - start) / num_images


def contestants(folder: Path, device: torch.device) -> dict[str, Callable[[], Iterator[Tensor]]]:
    """For each side, what gives an epoch's batches on the device."""
    digits, classes, _ = open_source("embedded")["train"].read(
        np.arange(5000), PixelFormat((28, 28), 1), skip_bad=False
    )
    images, labels = digits[:, 0].numpy().repeat(REPEATS, 0), classes.numpy().repeat(REPEATS)
    fast = ours(images, labels, folder)
    loader, slow = fast.train_dataloader(), {workers: usual(images, labels, workers) for workers in (0, 2)}

    def fast_epoch() -> Iterator[Tensor]:
        for batch in loader:
            moved = tuple(part.to(device, non_blocking=True) for part in batch)
            yield fast.on_after_batch_transfer(moved, 0)[0]

    def slow_epoch(workers: int) -> Iterator[Tensor]:
        for batch, _ in slow[workers]:
            yield batch.to(device, non_blocking=True)

    sides: dict[str, Callable[[], Iterator[Tensor]]] = {"ImageDataModule": fast_epoch}
    return sides | {
        f"Dataset + DataLoader, {workers} workers": lambda workers=workers: slow_epoch(workers) for workers in slow
    }


def main() -> None:
    """Runs the contest and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each side (default: 5)")
    rounds = parser.parse_args().rounds
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        sides = contestants(Path(folder), device)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(rounds + 1):
            for name, epoch in sides.items():
                if (taken := seconds(epoch, device)) and number > 0:  # The first round warms up.
                    times[name].append(taken)
    report({name: 1 / statistics.median(taken) for name, taken in times.items()}, device)


def report(rates: dict[str, float], device: torch.device) -> None:
    """Prints images/s and how many times faster the data module is."""
    fastest = rates["ImageDataModule"]
    table = Table(title=f"60,000 images of 28x28, batch {BATCH_SIZE}, floats on {device.type}")
    for heading in ("loader", "images/s", "ImageDataModule is faster by"):
        table.add_column(heading, justify="left" if heading == "loader" else "right")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}", f"{fastest / rate:.1f} times" if rate != fastest else "")
    console = Console()
    console.print(table)
    best = max(rate for rate in rates.values() if rate != fastest)
    console.print(f"ratio to the best other: {fastest / best:.1f} (target: at least 10)")
    where = torch.cuda.get_device_name() if device.type == "cuda" else machine()
    console.print(f"{where}, {datetime.date.today()}", highlight=False)


if __name__ == "__main__":
    main()
