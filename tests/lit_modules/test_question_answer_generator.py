"""QuestionAnswerGenerator through the real Trainer, on a tiny language written out by hand."""

import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn.functional import cross_entropy

from callbacks.ema import ExponentialMovingAverage, load_averaged_weights
from lit_modules.question_answer_generator import QuestionAnswerGenerator
from tests.lit_modules.passage_data import WORDS, Record, TinyPassages, written
from tests.lit_modules.tiny_encoder import tiny_encoder
from tests.lit_modules.training import assert_resumes, logged
from tests.processes import trainer_of

Make = Callable[..., Trainer]
SMALL: dict[str, Any] = {"hidden": 16, "layers": 1, "heads": 2, "max_positions": 64, "pairs": 2, "max_question": 8}
SMALL |= {"dropout": 0.0, "max_answer": 3, "beams": 2, "evaluated_passages": 3}
LEARNS = SMALL | {"hidden": 64, "layers": 2, "learning_rate": 3e-3, "answer_in_passage": True}
PASSAGE = "Ann likes  TEA, Bob likes figs"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a module that has learned the language."""
    folder = tmp_path_factory.mktemp("trained")
    warnings.filterwarnings("ignore", message="`isinstance.treespec, LeafSpec.` is deprecated")
    torch.manual_seed(0)
    made = trainer_of(1, max_epochs=60, check_val_every_n_epoch=60, default_root_dir=folder)
    made.fit(QuestionAnswerGenerator(**LEARNS), TinyPassages())
    assert logged(made, "train/").keys() == {"loss"}
    made.save_checkpoint(folder / "trained.ckpt", weights_only=False)
    return folder / "trained.ckpt"


@pytest.fixture
def trained(checkpoint: Path) -> QuestionAnswerGenerator:
    return QuestionAnswerGenerator.load_from_checkpoint(checkpoint, weights_only=True)


# ---- Arguments ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr_schedule": "step"}, "unknown lr_schedule"),
        ({"optimizer": "Adm"}, "Did you mean 'torch.optim.Adam'"),
        ({"optimizer_args": {"epz": 1}}, "Did you mean 'eps'"),
        ({"hidden": 0}, "hidden=0 must be at least 1"),
        ({"hidden": 10, "heads": 4}, "hidden=10 must be a multiple of heads=4"),
        ({"beams": 0}, "beams=0 must be at least 1"),
        ({"pairs": 0}, "pairs=0 must be at least 1"),
        ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing=-0.1 must be at least 0 and below 1"),
        ({"exposure_noise": 1.0}, "exposure_noise=1.0 must be at least 0 and below 1"),
        ({"top_k": 0}, "top_k=0 must be at least 1, or null"),
        ({"top_p": 0.0}, "top_p=0.0 must be above 0 and at most 1"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"warmup_steps": -1}, "warmup_steps=-1 must not be negative"),
        ({"evaluated_passages": -1}, "evaluated_passages=-1 must not be negative"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        QuestionAnswerGenerator(**arguments)


def test_nobody_knows_the_vocabulary(trainer: Make) -> None:
    module = QuestionAnswerGenerator(**SMALL)
    with pytest.raises(ValueError, match="knows no vocabulary yet: train it with a PassageDataModule, or load a"):
        module.ask("Ann likes tea")
    with pytest.raises(ValueError, match="knows no vocabulary yet"):
        trainer(max_epochs=1).fit(module, TinyPassages().train_dataloader())


# ---- Training ----


def by_hand(module: QuestionAnswerGenerator, records: list[Record], **how: Any) -> torch.Tensor:
    """The losses of the tokens of segment 1, each pair for itself and without padding."""
    tokenizer, losses = module.tokenizer, []
    for record in records:
        passage, answer, question = ([*tokenizer.encode(text).numbers, 3] for text in record[1:4])
        target = [*answer, *question] if module.hparams["answer_first"] else [*question, *answer]
        tokens = torch.tensor([[2, *passage, *target]])
        segments = (torch.arange(tokens.shape[1]) > len(passage)).long()[None]
        logits = module.network(tokens, segments, torch.ones_like(tokens, dtype=torch.bool))
        losses.append(cross_entropy(logits[0, len(passage) : -1], torch.tensor(target), reduction="none", **how))
    return torch.cat(losses)


@pytest.mark.parametrize("answer_first", [True, False])
def test_the_loss_is_that_of_the_target_s_tokens(trainer: Make, answer_first: bool) -> None:
    # Of different lengths, so that there is padding between the parts.
    records = [*written(4), Record(9, "tea, rye", "tea, rye", "what?", True, ("tea",), ("what?",))]
    arguments = SMALL | {"learning_rate": 0.0, "label_smoothing": 0.2, "answer_first": answer_first}
    module, made = QuestionAnswerGenerator(**arguments), trainer(max_epochs=1)
    made.fit(module, TinyPassages(64, records=records))
    expected = by_hand(module, records, label_smoothing=0.2).mean().item()
    assert logged(made, "train/") == pytest.approx({"loss": expected}, rel=1e-5)
    # Not smoothed.
    expected = by_hand(module, records).mean().exp().item()
    assert logged(made, "val/")["perplexity"] == pytest.approx(expected, rel=1e-5)


def test_perplexity_counts_every_token_the_same(trainer: Make) -> None:
    module = QuestionAnswerGenerator(**SMALL | {"evaluated_passages": 0})
    module.take_data(TinyPassages())
    records = [*written(3), Record(9, "tea", "tea", "tea", True, ("tea",), ("tea",))]
    (found,) = trainer().validate(module, TinyPassages(6, records=records), verbose=False)
    # Nothing is generated, and so nothing else is known.
    assert found == pytest.approx({"val/perplexity": by_hand(module, records).mean().exp().item()}, rel=1e-5)


def test_wrong_inputs_change_the_loss_and_not_the_targets(trainer: Make) -> None:
    losses = []
    for share in (0.0, 0.5, 0.5):
        torch.manual_seed(0)
        made = trainer(max_epochs=1, limit_val_batches=0)
        module = QuestionAnswerGenerator(**SMALL | {"learning_rate": 0.0, "exposure_noise": share})
        made.fit(module, TinyPassages(80))
        losses.append(logged(made, "train/")["loss"])
    assert losses[0] != losses[1] == losses[2]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_a_batch_without_pairs_has_a_gradient_of_zero() -> None:
    module, data = QuestionAnswerGenerator(**SMALL), TinyPassages()
    module.take_data(data)
    losses = module._token_losses(data.batch([]))
    assert losses.shape == (0,)
    losses.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


def test_it_learns_to_ask(trainer: Make, trained: QuestionAnswerGenerator) -> None:
    """Passages that it has not seen: every answer is a thing of the passage, most questions are about the right one."""
    seen = {record.passage for record in written()}
    unseen = [record for record in written(200, seed=1) if record.passage not in seen]
    trained.hparams["evaluated_passages"] = 1000
    (tested,) = trainer().test(trained, TinyPassages(64, records=unseen), verbose=False)
    assert tested["test/answer_in_passage"] == 1
    assert tested["test/answer_exact_match"] > 0.9
    assert tested["test/answer_f1"] > 0.9
    assert tested["test/question_rouge_l"] > 0.9
    assert tested["test/perplexity"] < 2


def test_names_of_what_is_logged(trainer: Make) -> None:
    made = trainer(max_epochs=1)
    made.fit(QuestionAnswerGenerator(**SMALL), TinyPassages())
    names = {"perplexity", "answer_f1", "answer_exact_match", "answer_in_passage", "question_rouge_l"}
    assert logged(made, "val/").keys() == names | {"question_bleu", "distinct_2"}


def test_pairs_are_generated_once_for_a_passage(trained: QuestionAnswerGenerator, trainer: Make) -> None:
    trainer().validate(trained, TinyPassages(5), verbose=False)
    # The first three passages, two pairs each.
    assert trained.answers.answers == 6
    assert trained.questions.questions == 6


def test_evaluation_does_not_depend_on_batches(trained: QuestionAnswerGenerator, trainer: Make) -> None:
    results = [trainer().validate(trained, TinyPassages(size), verbose=False)[0] for size in (80, 7)]
    assert results[0] == pytest.approx(results[1], rel=1e-5)


# ---- Asking ----


def test_asking(trained: QuestionAnswerGenerator) -> None:
    trained.train()
    pairs = trained.ask(PASSAGE, n=2)
    assert trained.training
    assert {(pair.answer, pair.start, pair.end) for pair in pairs} == {("TEA", 11, 14), ("figs", 26, 30)}
    assert all(pair.question.startswith("what does") and math.isfinite(pair.score) for pair in pairs)
    assert all(pair.score < 0 for pair in pairs)
    assert len(trained.ask(PASSAGE, n=1)) == 1
    trained.eval()
    trained.ask(PASSAGE)
    assert not trained.training


def test_what_is_asked_depends_on_the_seed_and_not_on_the_batch(trained: QuestionAnswerGenerator) -> None:
    texts = ["cid likes jam, dot likes rye", PASSAGE, "", "bob likes tea"]
    alone = [trained.ask(text, n=3, seed=5) for text in texts]
    for one, other in zip(trained.ask(texts, n=3, seed=5), alone, strict=True):
        assert [pair[:2] for pair in one] == [pair[:2] for pair in other]
        assert [pair.score for pair in one] == pytest.approx([pair.score for pair in other], abs=1e-4)
    assert alone[2] == []
    assert trained.ask([]) == []
    assert len({tuple(pair.answer for pair in trained.ask(PASSAGE, n=1, seed=seed)) for seed in range(20)}) == 2


def test_a_passage_that_is_too_long(trained: QuestionAnswerGenerator) -> None:
    with pytest.raises(ValueError, match="a sequence has 82 tokens, the network takes 64"):
        trained.ask("tea " * 80)


def test_predictions_are_a_list_of_pairs_for_each_input(trained: QuestionAnswerGenerator, trainer: Make) -> None:
    texts = [PASSAGE, "", "cid likes jam, dot likes rye"]
    (found,) = trainer().predict(trained, TinyPassages(texts=texts))
    assert [len(pairs) for pairs in found] == [2, 0, 2]
    assert found[0][0].keys() == {"passage", "answer", "question", "score"}
    assert {pair["passage"] for pair in found[0]} == {PASSAGE}
    for number, pairs in enumerate(found):
        asked = trained.ask(texts[number], n=2, seed=number)
        assert [(pair["answer"], pair["question"]) for pair in pairs] == [pair[1::-1] for pair in asked]


# ---- Checkpoints ----


def test_a_checkpoint_is_enough_to_ask(trained: QuestionAnswerGenerator) -> None:
    assert trained.tokenizer.tokens[4:] == WORDS
    assert trained.ask(PASSAGE)


def test_a_datamodule_that_learns_from_the_checkpoint(trained: QuestionAnswerGenerator, trainer: Make) -> None:
    data = TinyPassages(words=[])
    trainer().validate(trained, data, verbose=False)
    assert data.prepared == ["setup validate", "load"]


def test_a_new_module_that_learns_from_the_checkpoint(checkpoint: Path, trainer: Make) -> None:
    data, made = TinyPassages(words=[]), trainer()
    module = QuestionAnswerGenerator(**LEARNS)
    made.validate(module, data, ckpt_path=checkpoint, weights_only=True, verbose=False)
    assert logged(made, "val/")["perplexity"] < 2


def test_other_words_than_the_model_s(checkpoint: Path, trainer: Make) -> None:
    more, other = TinyPassages(words=[*WORDS, "!"]), TinyPassages(words=[*WORDS[:-1], "!"])
    for data, message in (
        (more, "the model has 20 tokens, the checkpoint has 19: take the training files"),
        (other, "the model's token 18 is '!', that of the checkpoint is '?'"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            trainer(max_epochs=61).fit(QuestionAnswerGenerator(**LEARNS), data, ckpt_path=checkpoint, weights_only=True)
    module = QuestionAnswerGenerator.load_from_checkpoint(checkpoint, weights_only=True)
    with pytest.raises(ValueError, match="the model has 19 tokens, the datamodule has 20"):
        trainer(max_epochs=1).fit(module, more)


def test_another_network_than_the_checkpoint_s(checkpoint: Path, trainer: Make) -> None:
    for name, value, message in (
        ("hidden", 32, "hidden_size=32, that of the checkpoint hidden_size=64"),
        ("tied", False, "tied=False, that of the checkpoint tied=True"),
    ):
        other = QuestionAnswerGenerator(**LEARNS | {name: value})
        with pytest.raises(ValueError, match=message):
            trainer(max_epochs=61).fit(other, TinyPassages(), ckpt_path=checkpoint, weights_only=True)
        with pytest.raises(ValueError, match=message):
            QuestionAnswerGenerator.load_from_checkpoint(checkpoint, weights_only=True, **{name: value})
    # Dropout may be another one when a run goes on.
    loaded = QuestionAnswerGenerator.load_from_checkpoint(checkpoint, weights_only=True, dropout=0.5)
    assert loaded.network.settings()["config"]["hidden_dropout_prob"] == 0.5


def test_resumed_as_if_never_stopped(trainer: Make, tmp_path: Path) -> None:
    arguments = SMALL | {"warmup_steps": 8, "exposure_noise": 0.3}
    assert_resumes(trainer, lambda: QuestionAnswerGenerator(**arguments), TinyPassages, tmp_path, epochs=2)


def test_averaged_weights_are_those_that_are_evaluated(trainer: Make, tmp_path: Path) -> None:
    ema = ExponentialMovingAverage("", decay=0.5)
    module, made = QuestionAnswerGenerator(**SMALL), trainer(max_epochs=2, callbacks=[ema])
    made.fit(module, TinyPassages())
    made.save_checkpoint(tmp_path / "averaged.ckpt", weights_only=False)
    again = QuestionAnswerGenerator.load_from_checkpoint(tmp_path / "averaged.ckpt", weights_only=True)
    raw = by_hand(again, written(2))
    load_averaged_weights(again, tmp_path / "averaged.ckpt")
    averaged = by_hand(again, written(2))
    assert not torch.equal(averaged, raw)
    assert torch.equal(raw, by_hand(module, written(2)))
    with ema.averaged_weights(module):
        assert torch.equal(averaged, by_hand(module, written(2)))


# ---- Pretrained encoders ----


def embeddings(folder: Path) -> torch.Tensor:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"]


def test_an_encoder_to_begin_with(trainer: Make, tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "bert", vocabulary=19)
    arguments = SMALL | {"encoder": str(folder)}
    torch.manual_seed(1)
    whole, made = QuestionAnswerGenerator(**arguments), trainer(max_epochs=2)
    made.fit(whole, TinyPassages())
    torch.manual_seed(1)
    half = trainer(max_epochs=1)
    module = QuestionAnswerGenerator(**arguments)
    half.fit(module, TinyPassages())
    table = module.network.model.get_input_embeddings().weight
    assert 0 < (table - embeddings(folder)).abs().max() < 0.1
    half.save_checkpoint(tmp_path / "half.ckpt", weights_only=False)

    # The checkpoint is enough, to ask and to go on.
    for file in folder.iterdir():
        file.unlink()
    again = QuestionAnswerGenerator.load_from_checkpoint(tmp_path / "half.ckpt", weights_only=True)
    assert again.ask(PASSAGE) == module.ask(PASSAGE)
    resumed = QuestionAnswerGenerator(**arguments)
    trainer(max_epochs=2).fit(resumed, TinyPassages(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert resumed.ask(PASSAGE)
    predicted = trainer().predict(
        QuestionAnswerGenerator(**arguments),
        TinyPassages(texts=[PASSAGE]),
        ckpt_path=tmp_path / "half.ckpt",
        weights_only=True,
    )
    assert len(predicted[0][0]) == 2
    # Not for a new one.
    with pytest.raises(ValueError, match="bert' is no BERT or RoFormer that can be loaded"):
        trainer(max_epochs=1).fit(QuestionAnswerGenerator(**arguments), TinyPassages())


def test_a_part_of_an_encoder_s_vocabulary(trainer: Make, tmp_path: Path) -> None:
    folder, kept = tiny_encoder(tmp_path / "bert"), [*range(28, 9, -1)]
    module = QuestionAnswerGenerator(**SMALL, encoder=str(folder), learning_rate=0.0)
    trainer(max_epochs=1).fit(module, TinyPassages(kept=kept))
    assert torch.equal(module.network.model.get_input_embeddings().weight, embeddings(folder)[kept])


def test_an_encoder_of_another_vocabulary(trainer: Make, tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "bert")
    module = QuestionAnswerGenerator(**SMALL, encoder=str(folder))
    with pytest.raises(ValueError, match=r"the data has 19 tokens and the encoder 29: set data\.tokenizer to '.*bert'"):
        trainer(max_epochs=1).fit(module, TinyPassages())


def test_mixed_precision(trainer: Make) -> None:
    made = trainer(max_epochs=2, precision="bf16-mixed")
    made.fit(QuestionAnswerGenerator(**SMALL), TinyPassages())
    assert logged(made, "val/")["perplexity"] < 100
