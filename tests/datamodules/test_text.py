"""TextDataModule: every kind of text, the vocabulary, the parts, the cache, and what a Trainer sees."""

import gzip
import os
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

import run
from datamodules import TextDataModule, text_files, text_sources
from datamodules.token_loader import TokenLoader
from tests.processes import LeaveTogether

LINES = ["The cat sat on the mat .", "", "the dog saw the cat !", "a cat , a dog"]
WORDS = ["the", "cat", "sat", "on", "the", "mat", "the", "dog", "saw", "the", "cat", "a", "cat", "a", "dog"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps the tokens out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "litspaces" / "text"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The lines in a file."""
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES))
    return path


def prepared(source: Any = "docstrings", **options: Any) -> TextDataModule:
    """All words of a text in order, unless the options say otherwise."""
    everything = {"min_count": 1, "subsample": 0, "val_fraction": 0, "shuffle": False, "batch_size": 100}
    module = TextDataModule(source, **everything | options)
    module.prepare_data()
    module.setup("fit")
    return module


def words_of(module: TextDataModule, loader: Any = None) -> list[str]:
    batches = module.train_dataloader() if loader is None else loader
    return [module.items[token] for batch in batches for token in batch["tokens"].tolist()]


@pytest.mark.parametrize("kind", ["plain", "gzip", "many", "folder", "pattern", "hf", "strings", "tokens", "once"])
def test_every_kind_of_text(file: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "1.txt").write_text("\n".join(LINES[:2]))
    (tmp_path / "parts" / "2.gz").write_bytes(gzip.compress("\n".join(LINES[2:]).encode()))
    datasets.Dataset.from_dict({"text": LINES}).save_to_disk(tmp_path / "set")
    parts = str(tmp_path / "parts")
    options: dict[str, dict[str, Any]] = {
        "plain": {"source": str(file)},
        "gzip": {"source": [str(file)]},
        "many": {"source": [f"{parts}/1.txt", f"{parts}/2.gz"]},
        "folder": {"source": parts},
        "pattern": {"source": f"{parts}/*"},
        "hf": {"source": f"hf:{tmp_path / 'set'}"},
        "strings": {"sentences": LINES},
        "tokens": {"sentences": [line.split() for line in LINES]},
        "once": {"sentences": iter(LINES)},
    }
    if kind == "gzip":
        file.write_bytes(gzip.compress(file.read_bytes()))
    module = prepared(**options[kind])
    assert words_of(module) == WORDS
    (batch,) = module.train_dataloader()
    assert batch["sentences"].tolist() == [0] * 6 + [1] * 5 + [2] * 4
    assert module.items == ["the", "cat", "dog", "a", "sat", "on", "mat", "saw"]
    assert module.counts.tolist() == [4, 3, 2, 2, 1, 1, 1, 1]
    assert (module.num_tokens, module.num_unknown) == (15, 0)
    assert (module.labels, module.label_names) == (None, [])


def test_attributes_of_a_limited_vocabulary(file: Path) -> None:
    module = prepared(str(file), min_count=2)
    assert module.items == ["the", "cat", "dog", "a"]
    assert (module.num_tokens, module.num_unknown) == (11, 4)
    assert words_of(module) == [word for word in WORDS if word in module.items]
    assert prepared(str(file), max_vocabulary=2).items == ["the", "cat"]


def test_options_of_words(file: Path) -> None:
    as_it_is = prepared(str(file), lowercase=False, keep_punctuation=True)
    assert words_of(as_it_is) == " ".join(LINES).split()
    assert words_of(prepared(str(file), segmenter="builtins.list"))[:6] == list("thecat")
    assert words_of(prepared(str(file), segmenter=lambda line: line.split(" c")))[:2] == ["the", "at sat on the mat"]


def test_chinese() -> None:
    assert words_of(prepared(sentences=["我们在图书馆看书。", "ABC 公司，很好！"], segmenter="chinese")) == [
        *["我们", "在", "图书馆", "看书"],
        *["abc", "公司", "很", "好"],
    ]


def test_bad_text_leaves_no_cache(file: Path, cache: Path) -> None:
    file.write_bytes(b"good\n\xff\xfe bad\n")
    with pytest.raises(ValueError, match=r"text\.txt, line 2: not UTF-8"):
        prepared(str(file))
    assert not [path for path in cache.iterdir() if path.is_dir()]
    file.write_text("... !\n")
    with pytest.raises(ValueError, match=r"text\.txt has no words"):
        prepared(str(file))
    file.write_text("rare words\n")
    with pytest.raises(ValueError, match=r"no word of .*text\.txt occurs min_count=5 times"):
        prepared(str(file), min_count=5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_count": 0}, "min_count is 0, but has to be at least 1"),
        ({"max_vocabulary": 0}, "max_vocabulary is 0"),
        ({"subsample": -1}, "subsample is -1, but has to be at least 0"),
        ({"window": 0}, "window is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"val_fraction": 1}, "val_fraction is 1, but has to be at least 0 and below 1"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextDataModule(**wrong)


def test_too_little_text(file: Path) -> None:
    module = prepared(str(file), subsample=1e-12)
    with pytest.raises(ValueError, match=r"subsample=1e-12 keeps none of the words of .*text\.txt"):
        module.train_dataloader()
    module = prepared(str(file), val_fraction=1e-9)
    with pytest.raises(ValueError, match="val_fraction=1e-09 holds out none of the words"):
        module.val_dataloader()


def no_reading(*_: object) -> None:
    raise AssertionError("read again")


def test_cache_is_reused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(str(file))
    monkeypatch.setattr(text_sources, "read_lines", no_reading)
    again = prepared(str(file), min_count=2, window=3, seed=5, val_fraction=0.3)
    assert again.items
    assert words_of(prepared(str(file))) == words_of(first)
    for other in ({"lowercase": False}, {"keep_punctuation": True}, {"segmenter": "shlex.split"}):
        with pytest.raises(AssertionError, match="read again"):
            prepared(str(file), **other)


def test_cache_follows_the_text(file: Path, tmp_path: Path) -> None:
    prepared(str(file))
    file.write_text("other words")
    assert words_of(prepared(str(file))) == ["other", "words"]
    time = file.stat().st_mtime_ns
    file.write_text("other texts")
    os.utime(file, ns=(time + 1000, time + 1000))
    assert words_of(prepared(str(file))) == ["other", "texts"]
    os.replace(file, tmp_path / "moved.txt")
    assert words_of(prepared(str(tmp_path / "moved.txt"))) == ["other", "texts"]


def test_cache_dir(file: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(str(file), cache_dir=str(tmp_path / "mine"))
    assert list((tmp_path / "mine").iterdir())
    assert not cache.exists()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prepared(str(file))
    assert list((tmp_path / "home" / ".cache" / "litspaces" / "text").iterdir())


def test_temporary_folder_goes_with_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    module = prepared(sentences=LINES)
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    assert not cache.exists()
    del module
    assert not list((tmp_path / "temporary").iterdir())


def test_long_lines_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "LONGEST_LINE", 100)
    (tmp_path / "one line.txt").write_text(" ".join(f"w{n}" for n in range(1000)))
    module = prepared(str(tmp_path / "one line.txt"), batch_size=1000)
    assert words_of(module) == [f"w{n}" for n in range(1000)]


def sentences(count: int) -> list[list[str]]:
    """Sentence i is 7 times the word i % 90."""
    return [[f"w{number % 90}"] * 7 for number in range(count)]


def test_validation() -> None:
    module = prepared(sentences=sentences(900), val_fraction=0.1, subsample=1e-3, window=4, batch_size=50)
    batches = list(module.val_dataloader())
    held_out = torch.cat([batch["sentences"] for batch in batches]).unique()
    assert 50 < len(held_out) < 150
    assert sum(len(batch["tokens"]) for batch in batches) == 7 * len(held_out)
    assert all(batch["by_distance"].tolist() == [1, 0.75, 0.5, 0.25] for batch in batches)
    assert module.num_tokens == 6300 - 7 * len(held_out)
    other = prepared(sentences=sentences(900), val_fraction=0.1, seed=1)
    assert torch.equal(torch.cat([batch["sentences"] for batch in other.val_dataloader()]).unique(), held_out)
    seen = {sentence for batch in module.train_dataloader() for sentence in batch["sentences"].tolist()}
    assert not seen & set(held_out.tolist())
    assert words_of(module, module.test_dataloader()) == words_of(module, module.val_dataloader())
    assert prepared(sentences=LINES).val_dataloader() == []


def test_small_text_makes_one_batch(file: Path) -> None:
    module = prepared(str(file), subsample=0.01)
    (batch,) = module.train_dataloader()
    assert 3 < len(batch["tokens"]) < 12


class Watcher(LightningModule):
    """Notes the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[dict[str, Tensor]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.seen.append(batch)
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        assert len(batch["by_distance"]) == 5

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fitted(
    folder: Path,
    checkpoint: Path | None = None,
    *,
    text: dict[str, Any] | None = None,
    model: Watcher | None = None,
    **options: Any,
) -> tuple[Watcher, Trainer]:
    """Two epochs on a text."""
    watcher = model or Watcher()
    trainer = Trainer(
        **options,
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=any(isinstance(one, ModelCheckpoint) for one in options.get("callbacks", [])),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    data = {"sentences": sentences(900), "min_count": 1, "val_fraction": 0.1, "batch_size": 128}
    module = TextDataModule(**data | (text or {}))
    trainer.fit(watcher, datamodule=module, ckpt_path=checkpoint, weights_only=True)
    return watcher, trainer


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_trainer_resumes_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1, auto_insert_metric_name=False)
    whole, trainer = fitted(tmp_path, callbacks=[keep])
    batches = trainer.num_training_batches
    assert batches > 10
    assert len(whole.seen) == 2 * batches
    assert not torch.equal(whole.seen[0]["tokens"], whole.seen[batches]["tokens"])
    for step in (3, batches, batches + 5):
        rest, _ = fitted(tmp_path, tmp_path / f"{step}.ckpt")
        for seen, expected in zip(rest.seen, whole.seen[step:], strict=True):
            assert all(torch.equal(seen[name], expected[name]) for name in expected)


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_overfitting_repeats_a_batch(tmp_path: Path) -> None:
    watcher, _ = fitted(tmp_path, overfit_batches=1)
    assert len(watcher.seen) == 2
    assert torch.equal(watcher.seen[0]["tokens"], watcher.seen[1]["tokens"])


class Writer(Watcher):
    """Writes what each process has seen."""

    def on_train_end(self) -> None:
        torch.save(self.seen, Path(self.trainer.default_root_dir) / f"{self.trainer.global_rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "sentences"])
def test_two_processes_see_together_what_one_sees(tmp_path: Path, kind: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(" ".join(words) for words in sentences(900)))
    source: dict[str, Any] = (
        {"source": str(text), "sentences": None} if kind == "file" else {"sentences": sentences(900)}
    )
    alone, _ = fitted(tmp_path, text=source)
    processes = {"devices": 2, "strategy": "ddp_spawn", "callbacks": [LeaveTogether()]}
    fitted(tmp_path, text=source | {"batch_size": 64}, model=Writer(), **processes)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for first, second, expected in zip(*ranks, alone.seen, strict=True):
        for name in ("tokens", "sentences"):
            assert torch.equal(torch.cat([first[name], second[name]]), expected[name])


def test_command_line_takes_its_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data=TextDataModule", "--data.source=[a.txt,b.txt]", "--data.segmenter=chinese"]
    with pytest.raises(SystemExit) as ended:
        run.main(["fit", "--model=OptimizationFlow", *options, "--print_config"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "- a.txt" in printed
    assert "segmenter: chinese" in printed
    assert "sentences: null" in printed


@pytest.mark.data
def test_real_texts(shared_data: Path) -> None:
    english = TextDataModule(str(shared_data / "text" / "en_mixed.txt.gz"), val_fraction=0)
    english.setup("fit")
    assert english.items[:5] == ["the", "of", "and", "to", "a"]
    assert english.num_tokens + english.num_unknown == pytest.approx(5.26e6, rel=0.01)
    loader = english.train_dataloader()
    assert isinstance(loader, TokenLoader)
    assert len(next(iter(loader))["tokens"]) == 8192
