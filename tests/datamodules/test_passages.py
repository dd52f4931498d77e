"""The datamodule: the example that comes along, batches, split, cache, checkpoints, and what is wrong."""

import json
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.passage_batches import PassageInput
from datamodules.passage_cache import PassagePair
from datamodules.passage_parts import EMBEDDED
from datamodules.passages import PassageDataModule
from tests.comparing import same, through_a_file
from tests.datamodules.linking import write_tokenizer

Make = Callable[..., PassageDataModule]


def line(number: int) -> str:
    """Two questions about passage `number`, which is longer the higher that is."""
    passage = f"第{number}号有{number}个{'长' * number}苹果。"
    asked = [(f"{number}号有什么？", "苹果"), (f"{number}号有几个苹果？", str(number))]
    return json.dumps({"passage": passage, "qas": [{"question": q, "answer": a} for q, a in asked]}, ensure_ascii=False)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes datamodules of ten passages to train on and three to validate on, set up to fit unless told otherwise."""
    (tmp_path / "train.jsonl").write_text("\n".join(map(line, range(10))))
    (tmp_path / "others.jsonl").write_text("\n".join(map(line, range(7, 13))))

    def build(stage: str | None = "fit", **options: Any) -> PassageDataModule:
        files = {"train": str(tmp_path / "train.jsonl"), "validation": str(tmp_path / "others.jsonl")}
        data = PassageDataModule(**files | {"cache_dir": str(tmp_path / "cache"), "vocabulary_size": 60} | options)
        if stage is not None:
            data.setup(stage)
        return data

    return build


def passages_of(data: PassageDataModule, part: str) -> set[str]:
    pairs = data._open(part)
    return {pairs.record(row).passage for row in range(len(pairs))}


# ---- The example ----


def test_example_has_what_is_promised(tmp_path: Path) -> None:
    data = PassageDataModule(cache_dir=str(tmp_path))
    data.setup("fit")
    found = [data._open(part).record(row) for part in ("train", "validation") for row in range(len(data._open(part)))]
    assert len(found) == len({record.question for record in found}) == 100
    passages = {record.passage for record in found}
    assert sorted(passage.isascii() for passage in passages) == [False] * 20 + [True] * 10
    assert all(record.answer in record.passage for record in found)
    # Nothing is wrong, and no passage is cut.
    assert not any(line.startswith(" ") for line in data.report.splitlines())
    assert data.report.count("more pieces") == 0


def test_example_needs_no_arguments(tmp_path: Path) -> None:
    data = PassageDataModule(cache_dir=str(tmp_path))
    data.setup("fit")
    assert [len(batch["passage"]) for batch in data.train_dataloader()] == [32, 32, 16]
    assert [len(batch["records"]) for batch in data.val_dataloader()] == [20]
    assert [len(batch["records"]) for batch in data.test_dataloader()] == [20]
    (batch,) = data.predict_dataloader()
    lines = Path(EMBEDDED["predict"]).read_text().splitlines()
    assert batch["records"] == [PassageInput(n, json.loads(text)["passage"]) for n, text in enumerate(lines)]


def test_one_part_is_the_example(make: Make) -> None:
    (batch,) = make(test="embedded").test_dataloader()
    assert len(batch["records"]) == 20


# ---- Batches ----


def test_training_batch_is_as_it_is_said(make: Make) -> None:
    data = make(batch_size=3)
    batch = next(iter(data.train_dataloader()))
    parts = ("passage", "answer", "question")
    assert batch.keys() == {name for part in parts for name in (part, f"{part}_mask")}
    for part in parts:
        tokens, mask = batch[part], batch[f"{part}_mask"]
        assert tokens.dtype == torch.int64
        assert mask.dtype == torch.bool
        lengths = mask.sum(1)
        assert mask.equal(torch.arange(mask.shape[1]) < lengths[:, None])
        assert lengths.max() == mask.shape[1]
        assert (tokens[~mask] == 0).all()
        assert (tokens[range(3), lengths - 1] == 3).all()
        assert ((tokens == 3).sum(1) == 1).all()
        assert (tokens[:, 0] == 2).equal(torch.tensor([part == "passage"] * 3))


def test_tokens_are_those_of_the_texts(make: Make) -> None:
    data = make()
    (batch,) = data.val_dataloader()
    for row, record in enumerate(batch["records"]):
        for part in ("passage", "answer", "question"):
            numbers = batch[part][row][batch[f"{part}_mask"][row]].tolist()
            tokens = [data.tokens[number].removeprefix("##") for number in numbers]
            text = "".join(tokens[part == "passage" : -1])
            # 10, 11 and 12 come in no training text, but their digits do.
            assert text == getattr(record, part)


def test_records(make: Make) -> None:
    (batch,) = make().val_dataloader()
    assert all(isinstance(record, PassagePair) for record in batch["records"])
    assert same(move_data_to_device(batch, torch.device("cpu")), batch)
    records = {record.question: record for record in batch["records"]}
    number = records["8号有什么？"].piece
    assert number == 1
    assert records["8号有什么？"] == PassagePair(
        1,
        "第8号有8个长长长长长长长长苹果。",
        "苹果",
        "8号有什么？",
        True,
        ("苹果", "8"),
        ("8号有什么？", "8号有几个苹果？"),
    )
    assert sum(record.first for record in batch["records"]) == 6
    lengths = sum(batch[f"{part}_mask"].sum(1) for part in ("passage", "answer", "question"))
    assert lengths.tolist() == sorted(lengths.tolist(), reverse=True)


def test_each_epoch_has_all_pairs_in_an_order_of_its_own(make: Make) -> None:
    loader = make(batch_size=3).train_dataloader()
    epochs = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        epochs.append([tuple(row[row > 0].tolist()) for batch in loader for row in batch["question"]])
    assert len(epochs[0]) == len(set(epochs[0])) == 20
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1])


@pytest.mark.parametrize("done", [1, 4])
def test_loader_goes_on_where_it_was(done: int, make: Make) -> None:
    loader = make(batch_size=4).train_dataloader()
    loader.sampler.set_epoch(3)
    whole = list(loader)
    list(islice(loader, done))
    state, again = loader.state_dict(), make(batch_size=4).train_dataloader()
    again.load_state_dict(state)
    again.sampler.set_epoch(3)
    rest = list(again)
    assert len(rest) == 5 - done
    assert all(same(*pair) for pair in zip(rest, whole[done:], strict=True))


def test_overfitting_repeats_one_epoch(make: Make) -> None:
    data = make()
    data.trainer = type("Trainer", (), {"overfit_batches": 1})()
    loader = data.train_dataloader()
    first = next(iter(loader))
    loader.sampler.set_epoch(1)
    assert same(next(iter(loader)), first)


# ---- Parts ----


def test_passages_are_held_out_whole(make: Make) -> None:
    data = make(validation=None, val_fraction=0.3)
    train, validation = passages_of(data, "train"), passages_of(data, "validation")
    assert (len(train), len(validation)) == (7, 3)
    assert not train & validation
    assert passages_of(make(validation=None, val_fraction=0.3, seed=1), "validation") != validation
    assert passages_of(make(validation=None, val_fraction=0.3), "validation") == validation


def test_held_out_passages_teach_no_token(make: Make, tmp_path: Path) -> None:
    names = "甲乙丙丁戊己庚辛"
    lines = [{"passage": f"{name}有苹果", "question": f"{name}有什么", "answer": "苹果"} for name in names]
    (tmp_path / "named").write_text("\n".join(map(json.dumps, lines)))
    data = make(train=str(tmp_path / "named"), validation=None, val_fraction=0.5)
    held_out = {passage[0] for passage in passages_of(data, "validation")}
    assert len(held_out) == 4
    assert set(names) - set(data.tokens) == held_out
    # One in the passage and one in the question, of four, four and two tokens.
    assert "20.00% of 40 tokens unknown" in data.report


def test_no_question_is_in_both_parts(make: Make, tmp_path: Path) -> None:
    """Each question has three passages, as in WebQA: they are all held out or all trained on."""
    entries = [
        {"question": f"{n}?", "passages": [{"passage": f"{n}{c}苹果", "answer": "苹果"} for c in "abc"]}
        for n in range(20)
    ]
    (tmp_path / "web.json").write_text(json.dumps(entries))
    data = make(train=str(tmp_path / "web.json"), validation=None, val_fraction=0.25)
    pairs = data._open("validation")
    assert len(pairs) == 15
    assert len({pairs.record(row).question for row in range(15)}) == 5


@pytest.mark.parametrize("seed", range(3, 7))
def test_group_larger_than_what_is_held_out_stays(seed: int, make: Make, tmp_path: Path) -> None:
    """Eight passages have a question in common, two have one of their own; these seeds draw the eight at any place."""
    lines = [{"passage": f"{n}号苹果", "question": f"{max(n, 7)}?", "answer": "苹果"} for n in range(10)]
    (tmp_path / "large").write_text("\n".join(map(json.dumps, lines)))
    data = make(train=str(tmp_path / "large"), validation=None, val_fraction=0.2, seed=seed)
    assert passages_of(data, "validation") == {"8号苹果", "9号苹果"}


def test_nothing_is_held_out(make: Make) -> None:
    data = make(validation=None, val_fraction=0)
    assert data.val_dataloader() == []
    assert len(data._open("train")) == 20


def test_report_names_file_and_entry(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join([line(1), "no JSON", line(2).replace('"2"', '"3"'), line(3)]))
    report = make(train=str(path)).report
    assert f"{path} (train): 3 passages, 3 pieces, 5 questions with their answers in them" in report
    assert f"1 lines that are not JSON, left out: {path}:2" in report
    assert f"1 questions whose answer is not in the passage, left out: {path}:3 (3)" in report
    # What is wrong with a file is told once, even if both parts come from it.
    both = make(train=str(path), validation=None, val_fraction=0.4).report
    assert both.count("not JSON") == both.count("not in the passage") == 1


# ---- Cache ----


def test_files_are_read_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make()
    monkeypatch.setattr("datamodules.passage_parts.read_questions", lambda *_: pytest.fail("read"))
    again = make()
    assert again.report == first.report
    assert all(same(*pair) for pair in zip(first.train_dataloader(), again.train_dataloader(), strict=True))


def trainer_that(does: str) -> Any:
    return SimpleNamespace(state=SimpleNamespace(fn=TrainerFn(does)), overfit_batches=0)


def test_what_is_needed_to_fit_is_prepared_before(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(None)
    data.trainer = trainer_that("fit")
    data.prepare_data()
    monkeypatch.setattr("datamodules.passage_parts.read_questions", lambda *_: pytest.fail("read"))
    # The other processes of a machine have datamodules of their own.
    assert len(make().tokens) > 20


def test_nothing_is_prepared_to_predict(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.passage_parts.read_questions", lambda *_: pytest.fail("read"))
    data = make(None)
    data.trainer = trainer_that("predict")
    data.prepare_data()
    data.setup("predict")
    assert data.tokens == []


@pytest.mark.parametrize(
    "options",
    [{"max_passage": 9}, {"max_answer": 1}, {"max_question": 6}, {"vocabulary_size": 20}],
)
def test_other_settings_have_a_cache_of_their_own(options: dict[str, int], make: Make) -> None:
    first = make()
    with pytest.raises(AssertionError):
        assert all(same(*p) for p in zip(first.train_dataloader(), make(**options).train_dataloader(), strict=False))


def test_other_content_has_a_cache_of_its_own(make: Make, tmp_path: Path) -> None:
    """Of the same size and age."""
    assert "苹" in make().tokens
    path = tmp_path / "train.jsonl"
    age = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace("苹", "萍"))
    os.utime(path, ns=(age, age))
    assert "萍" in make().tokens


# ---- Tokenizers and checkpoints ----


def test_state_is_all_that_prediction_needs(make: Make, tmp_path: Path) -> None:
    data = make()
    state = through_a_file(data.state_dict())
    (tmp_path / "texts").write_text("第3号有3个苹果。\n")
    again = make("predict", train=None, validation=None, predict=str(tmp_path / "texts"))
    assert (again.tokens, again.tokenizer_json, again.kept, again.state_dict()) == ([], "", None, {})
    again.load_state_dict(state)
    assert again.tokens == data.tokens
    assert again.tokenizer_json == data.tokenizer_json
    assert again.state_dict() == data.state_dict()
    (batch,) = again.predict_dataloader()
    assert batch["passage"].tolist() == [[2, *data._tokenizer(["第3号有3个苹果。"])[0][0].tolist(), 3]]


def test_state_comes_before_what_is_learned_here(make: Make, tmp_path: Path) -> None:
    (tmp_path / "one").write_text(line(1))
    state = make(train=str(tmp_path / "one")).state_dict()
    data = make("validate")
    before = next(iter(data.val_dataloader()))["passage"]
    data.load_state_dict(state)
    assert not same(next(iter(data.val_dataloader()))["passage"], before)
    assert data.tokenizer_json == state["tokenizer"]


def test_state_of_other_training_data(make: Make, tmp_path: Path) -> None:
    (tmp_path / "one").write_text(line(1))
    data, states = make(), [make(train=str(tmp_path / "one")).state_dict(), make(validation=None).state_dict()]
    for state in states:
        with pytest.raises(
            ValueError, match=r"has other training questions than train='.*train.jsonl', val_fraction=0.1"
        ):
            data.load_state_dict(state)
    state = make(vocabulary_size=20).state_dict()
    with pytest.raises(ValueError, match="has other tokenizer than tokenizer=None, vocabulary_size=60, simplify"):
        data.load_state_dict(state)
    data.load_state_dict(through_a_file(make().state_dict()))


def test_simplified_vocabulary_of_a_network(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "network"
    folder.mkdir()
    data = make(tokenizer=write_tokenizer(folder), simplify_vocabulary=True)
    assert data.tokens == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "中", "文", "play", "##ing", "e", "!"]
    assert data.kept == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert make(tokenizer=str(folder)).kept is None
    again = make(None, train=None)
    again.load_state_dict(through_a_file(data.state_dict()))
    assert (again.kept, again.tokens) == (data.kept, data.tokens)


# ---- Predicting ----


def test_stream_of_pieces(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("苹果。第1号有。\n\u200b\n苹果。\n" + "".join(f"第{n}号。\n" for n in range(4)))
    data = make(predict=str(path), batch_size=3, max_passage=5)
    pieces = ["苹果。", "第1号有。", "苹果。", *(f"第{n}号。" for n in range(4))]
    batches = list(data.predict_dataloader())
    assert [batch["records"] for batch in batches] == [
        [PassageInput(number, pieces[number]) for number in part] for part in ([0, 1, 2], [3, 4, 5], [6])
    ]
    assert batches[0].keys() == {"passage", "passage_mask", "records"}
    assert batches[0]["passage_mask"].sum(1).tolist() == [5, 7, 5]
    assert f"{path}: 7 passages, 7 pieces\n    1 passages without a token, left out: {path}:2" in data.report
    data.skip_predictions = 5
    assert [batch["records"] for batch in data.predict_dataloader()] == [
        [PassageInput(number, pieces[number]) for number in (5, 6)]
    ]


# ---- What is wrong ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_passage": 0}, "max_passage is 0, but has to be at least 1"),
        ({"val_fraction": 1.5}, "val_fraction is 1.5, but has to be from 0 to 1"),
        ({"simplify_vocabulary": True}, "simplify_vocabulary is for a pretrained network's vocabulary: give its token"),
        ({"train": None}, "train is None, but has to be the path of a file with passages"),
        ({"validation": None, "val_fraction": 1.0}, "val_fraction=1.0 leaves none of 20 questions to train on"),
        ({"max_question": 2}, "train.jsonl has no question that can be used: 20 questions that are not of 1 to 2"),
        ({"tokenizer": "none/such"}, "tokenizer 'none/such' cannot be loaded"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # The hub's client tries for half a minute to reach it.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("part", ["train", "val", "test", "predict"])
def test_parts_that_are_missing(part: str, make: Make) -> None:
    data = make(None, train=None, validation=None)
    with pytest.raises(ValueError, match=f"{part}.* is None, but has to be the path"):
        getattr(data, f"{part}_dataloader")()


def test_no_vocabulary_yet(make: Make) -> None:
    with pytest.raises(ValueError, match="there is no vocabulary yet: give train, a tokenizer, or a checkpoint"):
        make("validate", train=None).val_dataloader()
