"""EntityLinker through the real Trainer, on a tiny knowledge base written out by hand."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn.functional import binary_cross_entropy_with_logits

from callbacks.ema import ExponentialMovingAverage, load_averaged_weights
from lit_modules import EntityLinker
from tests.lit_modules.linking_data import CHARACTERS, Mention, Text, TinyLinking
from tests.lit_modules.tiny_encoder import tiny_encoder
from tests.lit_modules.training import assert_resumes, logged
from tests.processes import trainer_of

Make = Callable[..., Trainer]
SMALL: dict[str, Any] = {"dim": 16, "hidden": 16, "heads": 2, "head_dim": 8, "learning_rate": 0.01}
LEARNS: dict[str, Any] = SMALL | {"dropout": 0.0, "restrict_candidates": False}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a module that has learned all there is."""
    folder = tmp_path_factory.mktemp("trained")
    warnings.filterwarnings("ignore", message="`isinstance.treespec, LeafSpec.` is deprecated")
    torch.manual_seed(0)
    made = trainer_of(1, max_epochs=10, default_root_dir=folder)
    made.fit(EntityLinker(**LEARNS), TinyLinking())
    assert logged(made, "train/").keys() == {"loss", "start", "end", "link"}
    assert logged(made, "val/")["f1"] == 1
    made.save_checkpoint(folder / "trained.ckpt", weights_only=False)
    return folder / "trained.ckpt"


@pytest.fixture
def trained(checkpoint: Path) -> EntityLinker:
    """That module, with its data."""
    module = EntityLinker.load_from_checkpoint(checkpoint, weights_only=True)
    module.data = TinyLinking()
    return module


# ---- Arguments ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": ["charcter"]}, "unknown feature 'charcter'. Did you mean 'character'"),
        ({"features": ["word", "word"]}, "features=['word', 'word'] has one twice"),
        ({"lr_schedule": "step"}, "unknown lr_schedule"),
        ({"optimizer": "Adm"}, "Did you mean 'torch.optim.Adam'"),
        ({"optimizer_args": {"epz": 1}}, "Did you mean 'eps'"),
        ({"hidden": 0}, "hidden=0 must be at least 1"),
        ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ({"link_threshold": -0.1}, "link_threshold=-0.1 must be at least 0 and below 1"),
        ({"warmup_steps": -1}, "warmup_steps=-1 must not be negative"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        EntityLinker(**arguments)


def test_nobody_knows_the_knowledge_base(trainer: Make) -> None:
    module = EntityLinker(characters=CHARACTERS)
    with pytest.raises(ValueError, match="has no knowledge base: set its attribute data to an EntityLinking"):
        module.link("xAb")
    # Training needs none.
    trainer(max_epochs=1).fit(module, TinyLinking().train_dataloader())


# ---- Training ----


def test_the_loss_is_three_cross_entropies(trainer: Make) -> None:
    module, data = EntityLinker(**LEARNS | {"learning_rate": 0.0}), TinyLinking(96)
    made = trainer(max_epochs=1, limit_val_batches=0)
    made.fit(module, data)
    batch = data.training_batch(data.texts)
    encoding = module.network.read(batch)
    expected = {}
    for column, (name, scores) in enumerate(zip(("start", "end"), module.network.spans(encoding), strict=True)):
        gate = batch["matches"][..., column] > 0
        targets = batch[f"{name}s"]
        assert not targets[~gate].any()
        entropy = binary_cross_entropy_with_logits(scores[gate], targets[gate], reduction="sum")
        expected[f"train/{name}"] = entropy / batch["mask"].sum()
    link = module.network.link(encoding, batch["mask"], batch["rows"])
    expected["train/link"] = binary_cross_entropy_with_logits(link, batch["rows"]["linked"])
    expected["train/loss"] = sum(expected.values())
    assert logged(made, "train/") == pytest.approx(
        {name.removeprefix("train/"): value.item() for name, value in expected.items()}, rel=1e-5
    )


def test_without_the_gate_all_characters_count(trainer: Make) -> None:
    module, data = EntityLinker(**LEARNS | {"learning_rate": 0.0, "gate": False}), TinyLinking(96)
    made = trainer(max_epochs=1, limit_val_batches=0)
    made.fit(module, data)
    batch = data.training_batch(data.texts)
    scores, _ = module.network.spans(module.network.read(batch))
    entropy = binary_cross_entropy_with_logits(scores[batch["mask"]], batch["starts"][batch["mask"]])
    assert logged(made, "train/")["start"] == pytest.approx(entropy.item(), rel=1e-5)


def test_it_learns_which_names_are_mentions_and_what_they_mean(trainer: Make, trained: EntityLinker) -> None:
    """A context of one character tells both: without it, half of the cds and of the Abs would be wrong."""
    names = ("mention_precision", "mention_recall", "mention_f1", "precision", "recall", "f1", "linking_accuracy")
    (tested,) = trainer().test(trained, TinyLinking(7), verbose=False)
    assert tested == dict.fromkeys((f"test/{name}" for name in names), 1.0)


def test_it_learns_without_a_gate(trainer: Make) -> None:
    module, made = EntityLinker(**LEARNS, gate=False), trainer(max_epochs=15)
    made.fit(module, TinyLinking())
    assert made.callback_metrics["val/f1"] > 0.95


def test_a_batch_without_rows(trainer: Make) -> None:
    made = trainer(max_epochs=1)
    made.fit(EntityLinker(**SMALL), TinyLinking(texts=[Text("1", "efg"), Text("2", "Abcd")]))
    assert made.callback_metrics["train/link"] == 0
    assert made.callback_metrics["val/f1"] == 0


def test_word_vectors(trainer: Make, tmp_path: Path) -> None:
    module, data = EntityLinker(**LEARNS), TinyLinking(words=True)
    made = trainer(max_epochs=1)
    made.fit(module, data)
    assert module.network.reader.words.shape == (16, 3)
    assert torch.equal(module.network.reader.word_vectors, data.word_vectors)
    made.save_checkpoint(tmp_path / "words.ckpt", weights_only=False)
    again = EntityLinker.load_from_checkpoint(tmp_path / "words.ckpt", weights_only=True)
    again.data = TinyLinking(words=True)
    assert again.link("xgAb") == module.link("xgAb")
    again.data = TinyLinking(words=True)
    again.data.word_vectors = None
    with pytest.raises(ValueError, match="the network was made for word vectors of 3 numbers"):
        again.link("xgAb")


# ---- Evaluation ----


def test_metrics_of_links_that_are_known(trainer: Make, trained: EntityLinker) -> None:
    """Restricted to the first candidate, each Ab means ab-x, whatever the network thinks."""
    module = trained
    module.hparams["restrict_candidates"] = True
    module.hparams["link_threshold"] = 0.0
    texts = [
        Text("1", "xgAb", (Mention(2, 4, "ab-x"),)),
        Text("2", "ygAbflcd", (Mention(2, 4, "ab-y"), Mention(6, 8, "cd"))),
        # NIL is nothing to find, and a mention that is no name can't be found.
        Text("3", "Abmcd", (Mention(3, 5, None), Mention(2, 3, "ab-x"))),
    ]
    (found,) = trainer().validate(module, TinyLinking(texts=texts), verbose=False)
    predicted, gold, correct = 4, 4, 3
    assert found["val/mention_precision"] == correct / predicted
    assert found["val/mention_recall"] == correct / gold
    # Of the four gold mentions ab-x and cd are right, of the four predicted ones too.
    assert found["val/linking_accuracy"] == 2 / 4
    assert found["val/precision"] == 2 / 4
    assert found["val/recall"] == 2 / 4


def test_thresholds(trainer: Make, trained: EntityLinker) -> None:
    module = trained
    assert len(module.link("xgAbflcd")) == 2
    for name in ("start_threshold", "end_threshold", "link_threshold"):
        before = module.hparams[name]
        module.hparams[name] = 0.9999999
        assert len(module.link("xgAbflcd")) < 2, name
        module.hparams[name] = before
    # What is dropped for its link is still found.
    module.hparams["link_threshold"] = 0.9999999
    (found,) = trainer().validate(module, TinyLinking(), verbose=False)
    assert found["val/mention_f1"] == 1
    assert found["val/linking_accuracy"] == 1
    assert found["val/recall"] < 1


def test_chunks_and_batches_make_no_difference(trainer: Make, trained: EntityLinker) -> None:
    module = trained
    texts = [text.text for text in TinyLinking().texts[:20]]
    whole = module.link(texts)
    module.data.chunk = 1
    for one, other in zip(whole, [module.link(text) for text in texts], strict=True):
        assert [mention[:5] for mention in one] == [mention[:5] for mention in other]
        assert [m.score for m in one] == pytest.approx([m.score for m in other], abs=1e-5)


# ---- Linking texts ----


def test_linking_a_text(trained: EntityLinker) -> None:
    module = trained
    module.train()
    ab, cd = module.link("xgAbflcd")
    assert module.training
    assert ab[:5] == (2, 4, "Ab", "ab-x", "Ab")
    assert [other.id for other in ab.runners_up] == ["ab-y"]
    assert 1 >= ab.score > ab.runners_up[0].score >= 0
    assert (cd.id, cd.runners_up) == ("cd", ())
    assert [[m.id for m in mentions] for mentions in module.link(["", "ygAbfmcd", "e"])] == [[], ["ab-y"], []]
    assert module.link([]) == []
    module.eval()
    module.link("xgAb")
    assert not module.training


def test_predictions_are_the_competition_s_records(trainer: Make, trained: EntityLinker) -> None:
    module = trained
    texts = [Text("7", "xgAbflcd"), Text("3", "ＡＢ"), Text("5", "")]
    (records,) = trainer().predict(module, TinyLinking(texts=texts))
    mentions = [
        {"kb_id": "ab-x", "mention": "Ab", "offset": "2"},
        {"kb_id": "cd", "mention": "cd", "offset": "6"},
    ]
    assert records == [
        {"text_id": "7", "text": "xgAbflcd", "mention_data": mentions},
        {"text_id": "3", "text": "ＡＢ", "mention_data": []},
        {"text_id": "5", "text": "", "mention_data": []},
    ]


# ---- Checkpoints ----


def test_a_checkpoint_and_a_knowledge_base_link(trainer: Make, checkpoint: Path) -> None:
    module = EntityLinker.load_from_checkpoint(checkpoint, weights_only=True)
    assert module.characters == CHARACTERS
    assert "characters" not in module.hparams
    data = TinyLinking()
    module.data = data
    # In Lightning's order.
    assert data.prepared == ["prepare_data", "setup predict", "load"]
    assert [mention.id for mention in module.link("xgAbflcd")] == ["ab-x", "cd"]
    data = TinyLinking()
    trainer().validate(module, data, verbose=False)
    assert data.prepared == ["prepare_data", "setup validate", "load"]
    assert module.data is data


@pytest.mark.parametrize("words", [False, True])
def test_a_datamodule_that_learns_from_the_checkpoint(trainer: Make, tmp_path: Path, words: bool) -> None:
    """As one without training texts does, after the module has been set up."""
    fitted = trainer(max_epochs=1)
    fitted.fit(EntityLinker(**LEARNS), TinyLinking(words=words))
    fitted.save_checkpoint(tmp_path / "saved.ckpt", weights_only=False)
    data, expected = TinyLinking(words=words, learned=False), logged(fitted, "val/")
    made = trainer()
    made.validate(EntityLinker(**LEARNS), data, ckpt_path=tmp_path / "saved.ckpt", weights_only=True, verbose=False)
    assert logged(made, "val/") == pytest.approx(expected)
    assert expected["f1"] > 0


def test_other_characters_than_the_model_s(trainer: Make, checkpoint: Path) -> None:
    more, other = TinyLinking(), TinyLinking()
    more.characters.append("!")
    other.characters[5] = "!"
    for data, message in (
        (more, "the model has 30 characters, the checkpoint has 29: take the"),
        (other, "the model's character 5 is '!', that of the checkpoint is 'd'"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer(max_epochs=11).fit(EntityLinker(**LEARNS), data, ckpt_path=checkpoint, weights_only=True)
    module = EntityLinker.load_from_checkpoint(checkpoint, weights_only=True)
    with pytest.raises(ValueError, match="the model has 29 characters, the datamodule has 30: take the"):
        trainer(max_epochs=1).fit(module, more)


def test_resumed_as_if_never_stopped(trainer: Make, tmp_path: Path) -> None:
    arguments = LEARNS | {"warmup_steps": 8}
    assert_resumes(trainer, lambda: EntityLinker(**arguments), TinyLinking, tmp_path, epochs=2)


def test_averaged_weights_are_those_that_are_evaluated(trainer: Make, tmp_path: Path) -> None:
    ema = ExponentialMovingAverage("", decay=0.5)
    module, made = EntityLinker(**LEARNS), trainer(max_epochs=2, callbacks=[ema])
    made.fit(module, TinyLinking())
    made.save_checkpoint(tmp_path / "averaged.ckpt", weights_only=False)
    again = EntityLinker.load_from_checkpoint(tmp_path / "averaged.ckpt", weights_only=True)
    again.data = TinyLinking()
    batch = again.data.encode(again.data.texts)
    raw = again.network.read(batch)
    load_averaged_weights(again, tmp_path / "averaged.ckpt")
    averaged = again.network.read(batch)
    assert not torch.equal(averaged, raw)
    assert torch.equal(raw, module.network.read(batch))
    with ema.averaged_weights(module):
        assert torch.equal(averaged, module.network.read(batch))


# ---- Pretrained encoders ----


def test_an_encoder_in_place_of_the_lstm(trainer: Make, tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "bert")
    module = EntityLinker(**LEARNS, encoder=str(folder), encoder_learning_rate=1e-2)
    made = trainer(max_epochs=20)
    made.fit(module, TinyLinking(pieces=True))
    assert made.callback_metrics["val/f1"] > 0.9
    groups = {group["name"]: group for group in made.optimizers[0].param_groups}
    assert (groups["network"]["lr"], groups["encoder"]["lr"]) == (0.01, 0.01)
    encoder = set(module.network.reader.model.parameters())
    assert set(groups["encoder"]["params"]) == {p for p in encoder if p.requires_grad}
    assert set(groups["network"]["params"]) == {p for p in module.parameters() if p.requires_grad} - encoder

    # The checkpoint is enough.
    made.save_checkpoint(tmp_path / "saved.ckpt", weights_only=False)
    for file in folder.iterdir():
        file.unlink()
    again = EntityLinker.load_from_checkpoint(tmp_path / "saved.ckpt", weights_only=True)
    again.data = TinyLinking(pieces=True)
    assert again.link("xgAbflcd") == module.link("xgAbflcd")
    # Not for a new one.
    with pytest.raises(ValueError, match="bert' is no transformers model that can be loaded"):
        trainer(max_epochs=1).fit(EntityLinker(encoder=str(folder)), TinyLinking(pieces=True))


def test_an_encoder_reads_no_words(trainer: Make, tmp_path: Path) -> None:
    module = EntityLinker(encoder=str(tiny_encoder(tmp_path / "bert")))
    with pytest.raises(ValueError, match=r"pieces of its own: leave data\.word_vectors out"):
        trainer(max_epochs=1).fit(module, TinyLinking(pieces=True, words=True))


def test_mixed_precision(trainer: Make) -> None:
    made = trainer(max_epochs=15, precision="bf16-mixed")
    made.fit(EntityLinker(**LEARNS), TinyLinking())
    assert made.callback_metrics["val/f1"] > 0.9
