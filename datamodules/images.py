"""Images of any source as batches of a fixed shape."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor

from datamodules.checks import at_least, one_of
from datamodules.image_hub import PixelDataset, bad_rows, to_arrow
from datamodules.image_sources import open_source
from datamodules.loading import (
    Batch,
    ResumableDataLoader,
    ResumableLoader,
    ShardedSampler,
    TensorLoader,
    random_generator,
)
from datamodules.pixels import ImageSource, PixelFormat

Part = Literal["train", "val", "test"]


class ImageDataModule(LightningDataModule):
    """Batches (images, labels) of any image source: images (B, C, H, W) float32, labels (B,) int64 or -1.

    Sets that take less than `in_memory_limit` bytes are decoded and resized once, kept as one uint8 tensor and
    sliced; larger ones are read from memory-mapped Arrow files and decoded by worker processes, to the same
    batches. Both become floats on the training device, in `on_after_batch_transfer`: the loaders themselves give
    uint8. The order, the flips and each process's share are functions of (seed, epoch, position), so that a run
    can be resumed anywhere in an epoch (datamodules/loading.py).

    Training leaves out the last images of an epoch that fill no batch; evaluation uses every image exactly once.
    Where the source has no test split, the validation images serve as one.

    Args:
        source: "embedded" (5,000 MNIST digits), or the path of an IDX file of images or a folder of them (.gz or
            not), of an .npz, of a zip or a folder of class folders, or "hf:" and the name or path of a Hugging Face
            data set.
        size: height and width in pixels that images are brought to; None (null in YAML) keeps theirs, which
            then all have to be the same.
        resize: "resize" scales to a square whatever the proportions, "crop" cuts a central square.
        channels: 1 (gray) or 3 (color).
        value_range: "symmetric" for [-1, 1] or "unit" for [0, 1].
        horizontal_flip: mirror each training image with probability 1/2, anew in each epoch.
        subset: use only so many training images (validation included), the first of a shuffle by `seed`.
        val_fraction: part of the training images that is kept for validation; from 1 on, their number.
        seed: seed of subset, validation split, order and flips.
        batch_size: images in a batch of one process.
        num_workers: processes that decode images, for sets above `in_memory_limit` only.
        pin_memory: put batches into page-locked memory, for faster copies to a GPU.
        on_bad_image: "error" stops at an image that cannot be decoded; "skip" leaves such images out, warns, and
            lists them in `bad_images`.
        in_memory_limit: bytes (one a pixel and channel, after resizing) above which the images of a part
            (training, validation, test) are not kept in memory; by default 2 GiB.

    Raises:
        ValueError: for a wrong argument, and later for a damaged or empty source.
        FileNotFoundError: later, where the source does not exist.
    """

    def __init__(
        self,
        source: str = "embedded",
        *,
        size: int | None = 28,
        resize: Literal["resize", "crop"] = "resize",
        channels: Literal[1, 3] = 1,
        value_range: Literal["symmetric", "unit"] = "symmetric",
        horizontal_flip: bool = False,
        subset: int | None = None,
        val_fraction: float = 0.1,
        seed: int = 0,
        batch_size: int = 64,
        num_workers: int = 0,
        pin_memory: bool = False,
        on_bad_image: Literal["error", "skip"] = "error",
        in_memory_limit: int = 2 * 2**30,
    ) -> None:
        super().__init__()
        one_of("resize", resize, ("resize", "crop"))
        one_of("channels", channels, (1, 3))
        one_of("value_range", value_range, ("symmetric", "unit"))
        one_of("on_bad_image", on_bad_image, ("error", "skip"))
        at_least("size", size, 1)
        at_least("subset", subset, 1)
        at_least("val_fraction", val_fraction, 0)
        at_least("batch_size", batch_size, 1)
        at_least("num_workers", num_workers, 0)
        self.source = source
        self.size = size
        self.resize = resize
        self.channels = channels
        self.value_range = value_range
        self.horizontal_flip = horizontal_flip
        self.subset = subset
        self.val_fraction = val_fraction
        self.seed = seed
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.on_bad_image = on_bad_image
        self.in_memory_limit = in_memory_limit
        self.bad_images: list[str] = []
        self._sources: dict[str, ImageSource] = {}
        self._parts: dict[Part, tuple[Tensor, Tensor] | PixelDataset] = {}

    def prepare_data(self) -> None:
        """Downloads what has to be, and writes the Arrow files of large sets, once on each machine."""
        parts: tuple[Part, ...] = ("train", "val", "test")
        self._read(*(part for part in parts if self._is_large(part)))

    def setup(self, stage: str) -> None:
        """Reads and resizes what the stage needs, at its first call."""
        needed: dict[str, tuple[Part, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        self._read(*needed.get(stage, ("test",)))

    def train_dataloader(self) -> ResumableLoader:
        """Returns shuffled batches, all of the same size."""
        overfit = getattr(self.trainer, "overfit_batches", 0) > 0
        return self._loader("train", shuffle=not overfit, drop_last=True, flip_coins=self.horizontal_flip)

    def val_dataloader(self) -> ResumableLoader | list[ResumableLoader]:
        """Returns the validation images in order; an empty list where there are none."""
        return self._loader("val") if len(self._rows("val")) else []

    def test_dataloader(self) -> ResumableLoader:
        """Returns the test images in order."""
        return self._loader("test")

    def predict_dataloader(self) -> ResumableLoader:
        """Returns the test images in order."""
        return self._loader("test")

    def reference_dataloader(self) -> "ReferenceLoader":
        """Returns this process's share of all training images as they are, in order, as floats on the CPU."""
        return ReferenceLoader(self._loader("train"), self)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Makes floats of a batch of uint8 images, on the device where it is; other batches stay as they are."""
        if batch[0].dtype != torch.uint8:
            return batch
        images, labels, *coins = batch
        if coins:
            images = torch.where(coins[0][:, None, None, None], images.flip(-1), images)
        # Both ends of the range come out exact.
        images = images.float().div_(127.5).sub_(1) if self.value_range == "symmetric" else images.float().div_(255)
        if self.trainer is not None:
            # Lightning converts batches before their transfer, when these were bytes still.
            images = self.trainer.precision_plugin.convert_input(images)
        return images, labels

    def _loader(
        self, part: Part, *, shuffle: bool = False, drop_last: bool = False, flip_coins: bool = False
    ) -> ResumableLoader:
        part = self._stand_in(part)
        self._read(part)
        if part not in self._parts:
            raise ValueError(f"{self.source!r} has no test images, and val_fraction 0 keeps none for validation")
        data = self._parts[part]
        size = len(data) if isinstance(data, PixelDataset) else len(data[0])
        sampler = ShardedSampler(size, self.batch_size, seed=self.seed, shuffle=shuffle, drop_last=drop_last)
        if isinstance(data, PixelDataset):
            return ResumableDataLoader(
                data,
                sampler,
                num_workers=self.num_workers,
                collate_fn=PixelDataset.collate,
                flip_coins=flip_coins,
                pin_memory=self.pin_memory,
            )
        return TensorLoader(data, sampler, flip_coins=flip_coins, pin_memory=self.pin_memory)

    def _read(self, *parts: Part) -> None:
        """Reads the parts that have images and were not read yet, and warns once of the images left out."""
        before = len(self.bad_images)
        for part in map(self._stand_in, parts):
            if part not in self._parts and len(self._rows(part)):
                self._parts[part] = self._read_part(part)
        for source in self._sources.values():
            source.close()
        if new := self.bad_images[before:]:
            more = f", and {len(new) - 3} more (`bad_images` lists all)" if len(new) > 3 else ""
            rank_zero_warn(f"{len(new)} damaged image(s) left out: {'; '.join(new[:3])}{more}")

    def _read_part(self, part: Part) -> tuple[Tensor, Tensor] | PixelDataset:
        source, rows = self._source(part), self._rows(part)
        pixel_format = self._format(source, rows)
        skip_bad = self.on_bad_image == "skip"
        if self._is_large(part):
            table = to_arrow(source, self.source, "test" if part == "test" else "train")
            bad = bad_rows(table, rows, pixel_format) if skip_bad else {}
            self.bad_images += bad.values()
            return PixelDataset(table, rows[~np.isin(rows, list(bad))], pixel_format)
        images, labels, bad_names = source.read(rows, pixel_format, skip_bad=skip_bad)
        self.bad_images += bad_names
        return images, labels

    def _open(self) -> dict[str, ImageSource]:
        if not self._sources:
            self._sources = open_source(self.source)
        return self._sources

    def _source(self, part: Part) -> ImageSource:
        return self._open()["test" if part == "test" else "train"]

    def _stand_in(self, part: Part) -> Part:
        """Returns the part that serves as this one."""
        return "val" if part == "test" and "test" not in self._open() else part

    def _rows(self, part: Part) -> NDArray[np.int64]:
        """Returns the rows of a part in its source.

        Training and validation rows stay in shuffled order: sources are often sorted by class, and whoever looks
        at the first images of a part should see all classes.
        """
        total = len(self._source(part))
        if part == "test":
            return np.arange(total)
        count = total if self.subset is None else self.subset
        if count > total:
            raise ValueError(f"subset is {count}, but {self.source!r} has {total} training images")
        num_val = int(self.val_fraction) if self.val_fraction >= 1 else round(self.val_fraction * count)
        if num_val >= count:
            raise ValueError(f"val_fraction takes {num_val} of {count} images and leaves none for training")
        rows = torch.randperm(total, generator=random_generator(self.seed, "split"))[:count].numpy()
        return rows[num_val:] if part == "train" else rows[:num_val]

    def _format(self, source: ImageSource, rows: NDArray[np.int64]) -> PixelFormat:
        if self.size is not None:
            return PixelFormat((self.size, self.size), self.channels, self.resize)
        return PixelFormat(source.first_size(rows), self.channels, "keep")

    def _is_large(self, part: Part) -> bool:
        part = self._stand_in(part)
        rows = self._rows(part)
        if not len(rows):
            return False
        shape = self._format(self._source(part), rows).shape
        return len(rows) * int(np.prod(shape)) > self.in_memory_limit


class ReferenceLoader:
    """The batches of a loader as the model would get them, but on the CPU."""

    def __init__(self, loader: ResumableLoader, datamodule: ImageDataModule) -> None:
        self._loader = loader
        self._datamodule = datamodule

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        return (self._datamodule.on_after_batch_transfer(batch, 0) for batch in self._loader)
