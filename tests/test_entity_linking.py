"""EntityLinker with EntityLinkingDataModule, on the example that comes along."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from datamodules import EntityLinkingDataModule
from datamodules.linking_parts import EMBEDDED
from lit_modules import EntityLinker

SMALL: dict[str, Any] = {"dim": 32, "hidden": 32, "heads": 4, "head_dim": 8, "learning_rate": 0.01}


def silent(**arguments: Any) -> Trainer:
    # Lightning's own use of torch; pytest resets the filters between a fixture and its test.
    warnings.filterwarnings("ignore", message="`isinstance.treespec, LeafSpec.` is deprecated")
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", devices=1, **(quiet | arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a cache, a checkpoint of a few epochs and what it found in the validation texts."""
    folder = tmp_path_factory.mktemp("linking")
    torch.manual_seed(0)
    data = EntityLinkingDataModule(cache_dir=str(folder), batch_size=16, max_description=64, candidates=2)
    made = silent(max_epochs=8, check_val_every_n_epoch=8)
    made.fit(EntityLinker(**SMALL), data)
    made.save_checkpoint(folder / "trained.ckpt", weights_only=False)
    found = {name: value.item() for name, value in made.callback_metrics.items() if name.startswith("val/")}
    (folder / "found.json").write_text(json.dumps(found))
    return folder


def knowledge_only(folder: Path, **arguments: Any) -> EntityLinkingDataModule:
    """Without training texts: all that is learned comes from the checkpoint."""
    common: dict[str, Any] = {"cache_dir": str(folder), "max_description": 64, "batch_size": 7}
    return EntityLinkingDataModule(EMBEDDED["knowledge"], **(common | arguments))


@pytest.fixture
def linker(folder: Path) -> EntityLinker:
    return EntityLinker.load_from_checkpoint(folder / "trained.ckpt", weights_only=True)


def test_it_has_learned_something(folder: Path) -> None:
    found = json.loads((folder / "found.json").read_text())
    assert found["val/mention_f1"] > 0.7
    assert found["val/f1"] > 0.3


def test_checkpoint_and_knowledge_base_evaluate_as_in_training(folder: Path, linker: EntityLinker) -> None:
    data = knowledge_only(folder, validation=EMBEDDED["validation"])
    (found,) = silent().validate(linker, data, verbose=False)
    assert found == pytest.approx(json.loads((folder / "found.json").read_text()))
    # By the path of the checkpoint, which the datamodule gets to see after its setup.
    data = knowledge_only(folder, validation=EMBEDDED["validation"])
    path = folder / "trained.ckpt"
    (again,) = silent().validate(EntityLinker(**SMALL), data, ckpt_path=path, weights_only=True, verbose=False)
    assert again == pytest.approx(found)


def test_links_have_the_places_of_the_text_as_written(folder: Path, linker: EntityLinker) -> None:
    linker.data = knowledge_only(folder)
    texts = [json.loads(line)["text"] for line in Path(EMBEDDED["train"]).read_text().splitlines()[:20]]
    mentions = linker.link(texts)
    assert sum(map(len, mentions)) > 5
    # Characters of two code units, full-width ones, one whose lower case is longer, and a lone surrogate.
    strange = "😀Ａｂ\u0130\ud800"
    for text, plain, moved in zip(texts, mentions, linker.link([strange + text for text in texts]), strict=True):
        for mention in plain:
            assert text[mention.start : mention.end] == mention.text
        for mention in moved:
            assert (strange + text)[mention.start : mention.end] == mention.text
            entity = linker.data.kb.entity(linker.data.kb.row(mention.id))
            assert mention.name == entity.subject
            assert mention.score >= max([other.score for other in mention.runners_up], default=0)


def test_predictions_are_the_texts_in_order(folder: Path, linker: EntityLinker, tmp_path: Path) -> None:
    lines = Path(EMBEDDED["predict"]).read_text().splitlines()
    texts = [{"text_id": str(number), "text": json.loads(line)["text"]} for number, line in enumerate(lines)]
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts))
    batches = silent().predict(linker, knowledge_only(folder, predict=str(file)))
    assert batches is not None
    records = [record for batch in batches for record in batch]
    assert [{name: record[name] for name in ("text_id", "text")} for record in records] == texts
    mentions = [(r["text"], m["mention"], int(m["offset"])) for r in records for m in r["mention_data"]]
    assert len(mentions) > 10
    assert all(text[start:].startswith(mention) for text, mention, start in mentions)
    linker.data = knowledge_only(folder)
    linked = [
        [{"kb_id": m.id, "mention": m.text, "offset": str(m.start)} for m in of_text]
        for of_text in linker.link([text["text"] for text in texts])
    ]
    assert linked == [record["mention_data"] for record in records]


def test_what_is_not_read_of_a_text_is_not_found(folder: Path, linker: EntityLinker) -> None:
    (whole,) = silent().validate(linker, knowledge_only(folder, validation=EMBEDDED["validation"]), verbose=False)
    data = knowledge_only(folder, validation=EMBEDDED["validation"], max_length=5)
    (part,) = silent().validate(linker, data, verbose=False)
    assert 0 < part["val/mention_recall"] < whole["val/mention_recall"]
    assert part["val/linking_accuracy"] < whole["val/linking_accuracy"]
