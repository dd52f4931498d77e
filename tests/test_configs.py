"""Every shipped config and sweep works as it is."""

import csv
import gzip
import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import run
from tests.files import write_idx
from tests.lit_modules.tiny_encoder import tiny_encoder

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
TWO_STEPS = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.limit_val_batches=1"]
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Caches of texts.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def idx_files(folder: Path) -> None:
    """The four files of MNIST and of Debian's dataset-fashion-mnist by their names: 96 and 16 gray images."""
    random = np.random.default_rng(0)
    for split, count in (("train", 96), ("t10k", 16)):
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", random.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", random.integers(0, 10, count, np.uint8))


def color_pictures(folder: Path) -> None:
    """CelebA's layout: 96 pictures, 178 wide and 218 high, in one folder."""
    random = np.random.default_rng(0)
    for number in range(96):
        path = folder / "img_align_celeba" / f"{number:06}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (218, 178, 3), np.uint8)).save(path)


def chinese_text(folder: Path) -> None:
    """A folder with a gzipped text of 400 lines."""
    lines = ("图书馆里的书按主题摆放。", "读者借了一本书，又借了另一本书。")
    (folder / "text.txt.gz").write_bytes(gzip.compress("\n".join(lines * 200).encode()))


def bert(folder: Path) -> None:
    """A tiny Chinese BERT and its tokenizer, as transformers keeps them."""
    from transformers import BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"的是在，。？", "中国"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    tiny_encoder(folder, vocabulary=len(words), positions=256)


# The configs whose data don't come along: what makes some in a folder, and the options to train on them.
IMAGE_OPTIONS = ["--data.source={folder}", "--data.batch_size=16", "--data.val_fraction=32"]
DATA: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "entropic_autoencoder_mnist": (idx_files, IMAGE_OPTIONS),
    "entropic_autoencoder_fashion_mnist": (idx_files, IMAGE_OPTIONS),
    "entropic_autoencoder_faces": (color_pictures, IMAGE_OPTIONS),
    "library_embedding_chinese": (
        chinese_text,
        ["--data.source={folder}", "--data.batch_size=64", "--data.val_fraction=0.2"],
    ),
    "question_answer_generator_pretrained": (bert, ["--model.encoder={folder}", "--data.tokenizer={folder}"]),
}


def data_arguments(config: str, folder: Path) -> list[str]:
    """Options that bring a config its data, made in `folder`; none where it has its own."""
    if config not in DATA:
        return []
    make, options = DATA[config]
    folder.mkdir()
    make(folder)
    return [option.format(folder=folder) for option in options]


def test_there_are_some() -> None:
    assert CONFIGS
    assert SWEEPS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_runs_two_steps_and_a_validation(path: Path, tmp_path: Path) -> None:
    data = data_arguments(path.stem, tmp_path / "data")
    assert run.main(["fit", "--config", f"configs/{path.name}", *TWO_STEPS, *data]) == 0
    (folder,) = (tmp_path / "runs" / path.stem).iterdir()
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    columns = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    monitor = yaml.safe_load(path.read_text())["checkpoint"].get("monitor")
    assert monitor in columns or monitor is None
    complete = yaml.safe_load((folder / "config.yaml").read_text())
    assert complete["trainer"]["max_steps"] == 2
    # Complete: what the config leaves at its default is there too.
    module = _imported(complete["model"]["class_path"])
    arguments = set(inspect.signature(module.__init__).parameters) - {"self"}
    assert set(complete["model"]["init_args"]) == arguments


@pytest.mark.slow
@pytest.mark.data
def test_mnists_config_runs_on_mnist(shared_data: Path, tmp_path: Path) -> None:
    """Two steps, and how far from 54,000 real images what they draw is: the FID was 897."""
    config = "configs/entropic_autoencoder_mnist.yaml"
    assert run.main(["fit", "--config", config, *TWO_STEPS, f"--data.source={shared_data / 'img'}"]) == 0
    (folder,) = (tmp_path / "runs" / "entropic_autoencoder_mnist").iterdir()
    with (folder / "metrics.csv").open(newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert 500 < float(row["val/fid_samples"]) < 1500


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_says_in_its_first_line_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# Article ")


def test_every_module_has_a_sweep() -> None:
    trained = {yaml.safe_load(path.read_text())["model"]["class_path"] for path in CONFIGS}
    swept = {yaml.safe_load((ROOT / "configs" / path.name).read_text())["model"]["class_path"] for path in SWEEPS}
    assert swept == trained


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweep_names_arguments_that_exist(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = yaml.safe_load(path.read_text())
    arguments = []
    for name, values in space["parameters"].items():
        value = values["values"][0] if "values" in values else values["min"]
        arguments.append(f"--{name}={str(value).lower()}")
    config = space["command"][space["command"].index("--config") + 1]
    with pytest.raises(SystemExit) as ended:
        run.main(["fit", "--config", config, *arguments, "--print_config"])
    assert ended.value.code == 0
    assert space["metric"]["name"] in (ROOT / config).read_text()
