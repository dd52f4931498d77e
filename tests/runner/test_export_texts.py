"""Exports of the modules that keep what their data taught them, used without their training files and encoders."""

import shutil
from pathlib import Path

import pytest
import yaml

from datamodules import EntityLinkingDataModule
from lit_modules import EntityLinker, LibraryEmbedding, QuestionAnswerGenerator
from runner.errors import UserError
from runner.export import export
from runner.exported import load
from runner.shipped import shipped
from tests.runner.exporting import fit, last
from tests.test_configs import bert


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fit_config(folder: Path, name: str, *arguments: str) -> Path:
    """Trains a shipped config for two steps and returns the last checkpoint."""
    config = yaml.safe_load((shipped("configs") / f"{name}.yaml").read_text())
    config["trainer"]["enable_progress_bar"] = False
    return last(fit(folder, config, *arguments))


def test_a_linker_needs_its_knowledge_base_alone(tmp_path: Path) -> None:
    checkpoint = fit_config(tmp_path, "entity_linker", "--trainer.callbacks=null")
    texts = ["胜利是一部电影。", "长江"]
    trained = EntityLinker.load_from_checkpoint(checkpoint, weights_only=True)
    linker = load(export(checkpoint, tmp_path / "out"))
    assert isinstance(linker, EntityLinker)
    with pytest.raises(ValueError, match="has no knowledge base"):
        linker.link("长江")
    for module in (trained, linker):
        module.hparams.update(dict.fromkeys(("start_threshold", "end_threshold", "link_threshold"), 0.0))
        module.data = EntityLinkingDataModule()
    assert linker.link(texts) == trained.link(texts)
    assert any(linker.link(texts))
    assert linker.data.state_dict().keys() == trained.data.state_dict().keys()


@pytest.mark.slow
def test_a_generator_from_a_pretrained_encoder_needs_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    bert(folder)
    options = [f"--model.encoder={folder}", f"--data.tokenizer={folder}", "--trainer.callbacks=null"]
    checkpoint = fit_config(tmp_path, "question_answer_generator_pretrained", *options)
    out = export(checkpoint, tmp_path / "out")
    trained = QuestionAnswerGenerator.load_from_checkpoint(checkpoint, weights_only=True)
    shutil.rmtree(folder)
    generator = load(out)
    assert isinstance(generator, QuestionAnswerGenerator)
    passage = "的是在，。？中国在的"
    assert generator.ask(passage, seed=3) == trained.ask(passage, seed=3)
    assert generator.tokenizer.json == trained.tokenizer.json


def test_other_items_are_refused(tmp_path: Path) -> None:
    checkpoint = fit_config(tmp_path, "library_embedding", "--trainer.callbacks=null")
    out = export(checkpoint, tmp_path / "out")
    books = load(out)
    assert isinstance(books, LibraryEmbedding)
    trained = LibraryEmbedding.load_from_checkpoint(checkpoint, weights_only=True)
    assert books.most_similar("Hamlet") == trained.most_similar("Hamlet")
    with pytest.raises((ValueError, UserError), match="item 0 is 'other'"):
        load(out, into=LibraryEmbedding(items=["other"]))
