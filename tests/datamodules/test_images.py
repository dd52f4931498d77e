"""ImageDataModule: parts, both ways of loading, and what a Trainer sees."""

import inspect
import multiprocessing
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import Tensor

from datamodules import ImageDataModule
from datamodules.loading import Batch, ResumableDataLoader, TensorLoader
from tests.processes import LeaveTogether

WAYS: dict[str, dict[str, Any]] = {
    "memory": {},
    "arrow": {"in_memory_limit": 100},
    "arrow, workers": {"in_memory_limit": 100, "num_workers": 2},
}


@pytest.fixture
def source(tmp_path: Path) -> str:
    """100 gray pictures of 6x6 whose pixels are the number of the picture, but for the last column: 0."""
    images = np.arange(100, dtype=np.uint8)[:, None, None].repeat(6, 1).repeat(6, 2)
    images[:, :, -1] = 0
    np.savez(tmp_path / "numbers.npz", images=images, labels=np.arange(100))
    return str(tmp_path / "numbers.npz")


def prepared(source: str, **options: Any) -> ImageDataModule:
    """A data module of that source, ready to fit."""
    module = ImageDataModule(source, **{"size": 6, "batch_size": 8, "val_fraction": 0.2} | options)
    module.prepare_data()
    module.setup("fit")
    return module


def equal(batches: list[Batch], others: list[Batch]) -> bool:
    """Whether two sequences of batches are the same, bit by bit."""
    return len(batches) == len(others) and all(
        len(a) == len(b) and all(map(torch.equal, a, b)) for a, b in zip(batches, others, strict=True)
    )


def labels_of(loader: Any) -> list[int]:
    """The labels of all batches."""
    return [label for batch in loader for label in batch[1].tolist()]


@pytest.mark.parametrize("way", WAYS)
def test_parts(source: str, way: str) -> None:
    module = prepared(source, **WAYS[way])
    assert isinstance(module.train_dataloader(), TensorLoader if way == "memory" else ResumableDataLoader)
    training, validation = labels_of(module.reference_dataloader()), labels_of(module.val_dataloader())
    assert len(validation) == 20
    assert sorted(training + validation) == list(range(100))
    assert validation != sorted(validation), "the first validation images should not all be of one class"
    assert labels_of(module.test_dataloader()) == labels_of(module.predict_dataloader()) == validation
    batches = list(module.train_dataloader())
    assert [len(images) for images, _ in batches] == [8] * 10
    assert sorted(labels_of(batches)) == sorted(training)
    for images, labels in batches:
        assert images.dtype == torch.uint8
        assert images.shape == (8, 1, 6, 6)
        assert torch.equal(images[:, 0, 0, 0].long(), labels)


@pytest.mark.parametrize("way", ["arrow", "arrow, workers"])
@pytest.mark.parametrize("kind", ["npz", "folder", "zip", "hf"])
def test_both_ways_give_the_same_batches(class_folders: Path, tmp_path: Path, kind: str, way: str) -> None:
    source = {"folder": str(class_folders), "hf": f"hf:{class_folders}"}.get(kind, "")
    if kind == "zip":
        source = shutil.make_archive(str(class_folders), "zip", class_folders)
    if kind == "npz":
        source = str(tmp_path / "a.npz")
        pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
        np.savez(source, images=pixels, labels=np.arange(12))
    options = {"size": 5, "channels": 3, "batch_size": 2, "horizontal_flip": True, "on_bad_image": "skip"}
    small, large = prepared(source, **options), prepared(source, **options | WAYS[way])
    for name in ("train_dataloader", "val_dataloader", "reference_dataloader"):
        assert equal(list(getattr(small, name)()), list(getattr(large, name)()))


@pytest.mark.parametrize("value_range", ["symmetric", "unit"])
def test_values_on_the_device(tmp_path: Path, value_range: str) -> None:
    np.savez(tmp_path / "a.npz", images=np.arange(256, dtype=np.uint8).reshape(16, 4, 4))
    module = prepared(str(tmp_path / "a.npz"), size=4, value_range=value_range, val_fraction=0, subset=16)
    images, labels = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    assert images.dtype == torch.float32
    assert labels.tolist() == [-1] * 8
    low, high = (-1, 1) if value_range == "symmetric" else (0, 1)
    values = torch.cat([images for images, _ in module.reference_dataloader()]).flatten().sort().values
    assert (values[0].item(), values[-1].item()) == (low, high), "the ends are exact"
    assert torch.allclose(values, torch.linspace(low, high, 256), atol=1e-6)


def test_finished_batches_stay_as_they_are(source: str) -> None:
    module = prepared(source)
    batch = next(iter(module.reference_dataloader()))
    assert module.on_after_batch_transfer(batch, 0) is batch


def test_flips(source: str) -> None:
    module = prepared(source, horizontal_flip=True)
    loader = module.train_dataloader()
    raw = list(loader)
    finished = [module.on_after_batch_transfer(batch, 0)[0] for batch in raw]
    for (images, _, coins), floats in zip(raw, finished, strict=True):
        flipped = floats[:, 0, 0, 0] == -1  # The last column is 0 before.
        assert torch.equal(flipped | (images[:, 0, 0, 0] == 0), coins | (images[:, 0, 0, 0] == 0))
    flips = torch.cat([coins for *_, coins in raw])
    assert 20 < flips.sum() < 60
    loader.sampler.set_epoch(1)
    assert not torch.equal(torch.cat([coins for *_, coins in loader]), flips)
    assert all(len(batch) == 2 for batch in module.val_dataloader())
    assert torch.all(next(iter(module.reference_dataloader()))[0][..., -1] == -1)


def test_subset_and_validation_split(source: str) -> None:
    module = prepared(source, subset=50, val_fraction=10)
    chosen = labels_of(module.reference_dataloader()), labels_of(module.val_dataloader())
    assert list(map(len, chosen)) == [40, 10]
    assert len(set(chosen[0] + chosen[1])) == 50
    again = prepared(source, subset=50, val_fraction=10, batch_size=5)
    assert labels_of(again.reference_dataloader()) == chosen[0]
    other = prepared(source, subset=50, val_fraction=10, seed=1)
    assert set(labels_of(other.reference_dataloader())) != set(chosen[0])
    assert prepared(source, val_fraction=0).val_dataloader() == []


def test_test_split(class_folders: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(class_folders, tmp_path / "set" / split)
    shutil.rmtree(tmp_path / "set" / "test" / "a")
    for way in WAYS.values():
        module = prepared(str(tmp_path / "set"), batch_size=3, **way)
        module.setup("test")
        assert labels_of(module.test_dataloader()) == [1] * 4 + [2] * 4
        assert len(labels_of(module.val_dataloader())) == 2


@pytest.mark.parametrize("way", WAYS)
def test_bad_image_is_an_error(class_folders: Path, way: str) -> None:
    (class_folders / "b" / "05.png").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"^.*/b/05.png: not an image, or damaged in its header$"):
        list(prepared(str(class_folders), val_fraction=0, batch_size=4, **WAYS[way]).train_dataloader())


@pytest.mark.parametrize("way", WAYS)
def test_bad_images_are_skipped_and_listed(class_folders: Path, way: str) -> None:
    for name in ("a/01", "a/02", "b/05", "c/09"):
        (class_folders / f"{name}.png").write_bytes(b"hello")
    options = {"val_fraction": 0.3, "batch_size": 4, "on_bad_image": "skip"} | WAYS[way]
    with pytest.warns(UserWarning, match=r"damaged image\(s\) left out: .*damaged in its header") as warned:
        module = prepared(str(class_folders), **options)
    assert len(module.bad_images) == 4
    assert sum("left out" in str(warning.message) for warning in warned) <= 2
    assert sorted(Path(bad.split(": ")[0]).stem for bad in module.bad_images) == ["01", "02", "05", "09"]
    assert len(labels_of(module.reference_dataloader())) + len(labels_of(module.val_dataloader())) == 8


def test_size_none_keeps_the_size(class_folders: Path) -> None:
    for way in WAYS.values():
        module = prepared(str(class_folders), size=None, channels=3, batch_size=4, **way)
        assert next(iter(module.train_dataloader()))[0].shape == (4, 3, 8, 8)
    Image.new("RGB", (6, 9)).save(class_folders / "b" / "05.png")
    for way in WAYS.values():
        with pytest.raises(ValueError, match=r"mixed, so give the size"):
            labels_of(prepared(str(class_folders), size=None, val_fraction=0, **way).reference_dataloader())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "corp"}, "resize is 'corp', but has to be 'resize' or 'crop'; did you mean 'crop'"),
        ({"channels": 2}, "channels is 2, but has to be 1 or 3"),
        ({"value_range": "units"}, "did you mean 'unit'"),
        ({"on_bad_image": "ignore"}, "has to be 'error' or 'skip'"),
        ({"size": 0}, "size is 0, but has to be at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"subset": 101}, "subset is 101, but '.*numbers.npz' has 100 training images"),
        ({"val_fraction": 100}, "val_fraction takes 100 of 100 images"),
        ({"batch_size": 81}, "batches of 81 in each of 1 process.* need 81 rows; there are 80"),
    ],
)
def test_wrong_arguments(source: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepared(source, **options).train_dataloader()


def test_no_test_images(source: str) -> None:
    with pytest.raises(ValueError, match="has no test images"):
        prepared(source, val_fraction=0).test_dataloader()


def test_all_arguments_are_documented() -> None:
    documented = inspect.getdoc(ImageDataModule) or ""
    missing = [name for name in inspect.signature(ImageDataModule).parameters if f"    {name}:" not in documented]
    assert missing == []


def test_pickles_before_and_after_setup(source: str) -> None:
    module = prepared(source)
    for copy in (pickle.loads(pickle.dumps(module)), pickle.loads(pickle.dumps(ImageDataModule(source, size=6)))):
        copy.setup("fit")
    assert labels_of(pickle.loads(pickle.dumps(module)).val_dataloader()) == labels_of(module.val_dataloader())


def test_global_random_state_is_untouched(source: str) -> None:
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    for way in WAYS.values():
        list(prepared(source, horizontal_flip=True, **way).train_dataloader())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (str(np.random.get_state()), random.getstate()) == before[1:]


class Recorder(LightningModule):
    """Learns a mean, and keeps every batch that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Batch] = []
        self.validated: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen.append(tuple(part.clone() for part in batch))
        return (batch[0] - self.mean).square().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated += batch[1].tolist()

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return batch[1]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder: Path, **options: Any) -> Trainer:
    """A silent Trainer on the CPU."""
    base: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "default_root_dir": folder}
    silent = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return Trainer(**(base | silent | options))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_trainer_resumes_with_the_remaining_batches(source: str, tmp_path: Path, way: str) -> None:
    options = {"horizontal_flip": True} | WAYS[way]
    whole = Recorder()
    keep = ModelCheckpoint(
        tmp_path / "kept", filename="{step}", every_n_train_steps=1, save_top_k=-1, auto_insert_metric_name=False
    )
    fit = {"max_epochs": 3, "val_check_interval": 4, "num_sanity_val_steps": 0}
    trainer(tmp_path, **fit, callbacks=[keep], enable_checkpointing=True).fit(whole, prepared(source, **options))
    assert len(whole.seen) == 30
    assert len(whole.validated) == 20 * 6
    assert len({tuple(labels.tolist()) for _, labels in whole.seen}) == 30
    for step in (3, 10, 14, 20) if way == "memory" else (14,):
        resumed = Recorder()
        trainer(tmp_path, **fit).fit(resumed, prepared(source, **options), ckpt_path=tmp_path / "kept" / f"{step}.ckpt")
        assert multiprocessing.active_children() == [], "Lightning ends the workers"
        assert equal(resumed.seen, whole.seen[step:])
        assert torch.equal(resumed.mean, whole.mean)


def test_trainer_converts_to_its_precision(source: str, tmp_path: Path) -> None:
    for precision, dtype in (("32-true", torch.float32), ("bf16-true", torch.bfloat16)):
        model = Recorder()
        trainer(tmp_path, precision=precision, max_steps=1, limit_val_batches=0).fit(model, prepared(source))
        assert model.seen[0][0].dtype == dtype


def test_trainer_predicts_and_validates(source: str, tmp_path: Path) -> None:
    model, module = Recorder(), prepared(source)
    trainer(tmp_path).validate(model, module, verbose=False)
    predicted: Any = trainer(tmp_path).predict(model, module)
    assert torch.cat(predicted).tolist() == model.validated == labels_of(module.val_dataloader())


@pytest.mark.parametrize("way", ["memory", "arrow"])
@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_overfitting_sees_the_same_batches_in_every_epoch(source: str, tmp_path: Path, way: str) -> None:
    model = Recorder()
    trainer(tmp_path, overfit_batches=2, max_epochs=2).fit(model, prepared(source, **WAYS[way]))
    assert equal(model.seen[:2], model.seen[2:])


class Writer(Recorder):
    """Writes what each process has seen."""

    def on_train_end(self) -> None:
        rank = self.trainer.global_rank
        torch.save((self.seen, self.validated), Path(self.trainer.default_root_dir) / f"{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["memory", "arrow"])
def test_two_processes_see_together_what_one_sees(source: str, tmp_path: Path, way: str) -> None:
    options = {"horizontal_flip": True, "subset": 97} | WAYS[way]
    alone = Recorder()
    fit = {"max_epochs": 2, "num_sanity_val_steps": 0}
    trainer(tmp_path, **fit).fit(alone, prepared(source, batch_size=8, **options))
    both = trainer(tmp_path, **fit, devices=2, strategy="ddp_spawn", callbacks=[LeaveTogether()])
    module = ImageDataModule(source, size=6, val_fraction=0.2, batch_size=4, **options)
    both.fit(Writer(), module)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    together = [tuple(map(torch.cat, zip(*parts, strict=True))) for parts in zip(ranks[0][0], ranks[1][0], strict=True)]
    assert equal(together, alone.seen)
    assert sorted(ranks[0][1] + ranks[1][1]) == sorted(alone.validated)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "options", "shape", "batches"),
    [
        ("mnist-train-images-idx3-ubyte.gz", {}, (1, 28, 28), 421),
        ("olivetti_64x64_uint8.npz", {"size": None}, (1, 64, 64), 2),
        ("omniglot_small1.zip", {"size": 28}, (1, 28, 28), 19),
    ],
)
def test_real_data(shared_data: Path, name: str, options: dict[str, Any], shape: tuple[int, ...], batches: int) -> None:
    module = ImageDataModule(str(shared_data / "img" / name), batch_size=128, **options)
    module.setup("fit")
    loader = module.train_dataloader()
    assert len(loader) == batches
    images, labels = module.on_after_batch_transfer(next(iter(loader)), 0)
    assert images.shape == (128, *shape)
    assert len(labels.unique()) > 5


@pytest.mark.data
@pytest.mark.slow
def test_real_data_both_ways(shared_data: Path) -> None:
    source = str(shared_data / "img" / "cifar10_train25k_jpeg.zip")
    options = {"size": 32, "channels": 3, "batch_size": 500, "subset": 4000, "horizontal_flip": True}
    assert equal(
        list(prepared(source, **options).train_dataloader()),
        list(prepared(source, **options, in_memory_limit=0, num_workers=2).train_dataloader()),
    )


def test_defaults_train_on_the_embedded_digits(tmp_path: Path) -> None:
    model = Recorder()
    trainer(tmp_path, max_steps=2, limit_val_batches=1).fit(model, ImageDataModule())
    images, labels = model.seen[0]
    assert images.shape == (64, 1, 28, 28)
    assert (images.min().item(), images.max().item()) == (-1, 1)
    assert 5 < len(labels.unique()) <= 10
