"""The datamodule: the example that comes along, parts, what is learned and kept, and what is wrong with files."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from datamodules.entity_linking import EntityLinkingDataModule
from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_files import LinkingText
from datamodules.linking_parts import EMBEDDED
from tests.comparing import same, through_a_file
from tests.datamodules.linking import ENTITIES, text_of, write_knowledge, write_texts, write_tokenizer

TRAIN = [
    text_of(1, "今天吃苹果", ("苹果", "11")),
    text_of(2, "今天吃梨，不吃苹果", ("梨", "13"), ("苹果", "11")),
    text_of(3, "今天苹果的手机", ("苹果", "10")),
    text_of(4, "今天很好"),
    text_of(5, "香梨", ("香梨", "13")),
]
OTHERS = [text_of(1, "苹果丰收", ("苹果", "11")), text_of(2, "香梨丰收了", ("香梨", None))]

Make = Callable[..., EntityLinkingDataModule]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes datamodules of the small knowledge base and texts, set up to fit unless the options say otherwise."""
    knowledge = write_knowledge(tmp_path / "kb.jsonl")
    train, validation = (write_texts(tmp_path / f"{n}.jsonl", t) for n, t in (("train", TRAIN), ("others", OTHERS)))

    def build(stage: str | None = "fit", **options: Any) -> EntityLinkingDataModule:
        files = {"knowledge": knowledge, "train": train, "validation": validation}
        data = EntityLinkingDataModule(**files | {"cache_dir": str(tmp_path / "cache")} | options)
        if stage is not None:
            data.prepare_data()
            data.setup(stage)
        return data

    return build


# ---- The example ----


def test_example_has_what_is_promised(tmp_path: Path) -> None:
    data = EntityLinkingDataModule(cache_dir=str(tmp_path))
    data.setup("fit")
    assert len(data.kb) == 60
    texts = data._parts.texts("train") + data._parts.texts("validation")
    assert len(texts) == len({text.id for text in texts}) == 150
    shared = [number for number in range(data.kb.num_names) if len(data.kb.candidates(number)) > 1]
    assert len(shared) >= 20
    # Nothing is wrong but three mentions that are NIL.
    assert all("NIL" in line for line in data.report.splitlines() if line.startswith(" "))
    assert sum(mention.entity is None for text in texts for mention in text.mentions) == 3
    for text in texts:
        for start, end, entity in text.mentions:
            assert entity is None or data.kb.row(entity) in data.candidates_of(text, start, end, False)


def test_example_needs_no_arguments(tmp_path: Path) -> None:
    data = EntityLinkingDataModule(cache_dir=str(tmp_path), batch_size=32)
    data.setup("fit")
    assert [len(batch["mask"]) for batch in data.train_dataloader()] == [32, 32, 32, 14]
    assert [len(batch["texts"]) for batch in data.val_dataloader()] == [32, 8]
    assert [len(batch["texts"]) for batch in data.test_dataloader()] == [32, 8]
    lines = Path(EMBEDDED["predict"]).read_text().splitlines()
    predicted = [text.text for batch in data.predict_dataloader() for text in batch["texts"]]
    assert predicted == [json.loads(line)["text"] for line in lines]


# ---- Batches ----


def test_training_batch(make: Make) -> None:
    (batch,) = make(batch_size=5, candidates=3).train_dataloader()
    tensors = {"mask", "characters", "matches", "starts", "ends"}
    assert batch.keys() == {*tensors, "rows"}
    assert batch["rows"].keys() == {
        "text_of",
        "mention",
        "features",
        "entity_characters",
        "entity_mask",
        "entity_of",
        "linked",
    }
    assert len(batch["rows"]["linked"].unique()) == 2
    # 今天 is matched in four texts and labeled in none: its name is not allowed.
    assert int(batch["matches"][..., 0].sum()) == 5


def test_without_behavior_all_names_match(make: Make) -> None:
    (batch,) = make(batch_size=5, behavior=False).train_dataloader()
    assert int(batch["matches"][..., 0].sum()) == 9


def test_evaluation_batch_survives_the_way_to_the_device(make: Make) -> None:
    (batch,) = make().val_dataloader()
    moved = move_data_to_device(batch, torch.device("cpu"))
    assert same(moved, batch)
    assert all(isinstance(text, LinkingText) for text in moved["texts"])
    assert moved["texts"] == sorted(OTHERS, key=lambda text: -len(text.text))


def test_worker_processes_make_the_same_batches(make: Make) -> None:
    loaders = [make(batch_size=2, num_workers=number).train_dataloader() for number in (0, 2)]
    for epoch in range(2):
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        assert all(same(*pair) for pair in zip(*loaders, strict=True))
    loaders[1].close()


@pytest.mark.parametrize("done", [1, 2])
def test_loader_goes_on_where_it_was(done: int, make: Make) -> None:
    loader = make(batch_size=2, candidates=2).train_dataloader()
    loader.sampler.set_epoch(3)
    whole = list(loader)
    list(islice(loader, done))
    state, again = loader.state_dict(), make(batch_size=2, candidates=2).train_dataloader()
    again.load_state_dict(state)
    again.sampler.set_epoch(3)
    rest = list(again)
    assert len(rest) == 3 - done
    assert all(same(*pair) for pair in zip(rest, whole[done:], strict=True))


def test_overfitting_repeats_one_epoch(make: Make) -> None:
    data = make(batch_size=5)
    data.trainer = type("Trainer", (), {"overfit_batches": 1})()
    loader = data.train_dataloader()
    first = next(iter(loader))
    loader.sampler.set_epoch(1)
    assert same(next(iter(loader)), first)


def test_word_vectors(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("6 2\n苹果 1 2\n手机 3 4\n不在 5 6\n丰收 7 8\n加州 1 1\n吃 2 2\n")
    data = make(word_vectors=str(path))
    # 加州 is in the knowledge base alone, 吃 in the training texts alone, 丰收 in the validation texts alone.
    assert torch.equal(data.word_vectors, torch.tensor([[0.0, 0], [1, 2], [3, 4], [1, 1], [2, 2]]))
    batch = data.encode([text_of(1, "苹果手机丰收")])
    assert batch["words"].tolist() == [[1, 1, 2, 2, 0, 0]]
    assert "entity_words" in next(iter(data.train_dataloader()))["rows"]
    again = make(None, train=None)
    again.load_state_dict(through_a_file(data.state_dict()))
    assert torch.equal(again.word_vectors, data.word_vectors)
    assert same(again.encode(OTHERS), data.encode(OTHERS))


def test_tokenizer_is_not_needed_again(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    data = make(tokenizer=write_tokenizer(folder))
    again = make(None, train=None)
    again.load_state_dict(through_a_file(data.state_dict()))
    batch = again.encode([text_of(1, "中文 playing")])
    assert batch["piece_of"].tolist() == [[1, 2, 0, 3, 3, 3, 3, 4, 4, 4]]
    assert same(batch, data.encode([text_of(1, "中文 playing")]))


# ---- What is learned ----


def test_held_out_texts_teach_nothing(make: Make) -> None:
    """Only three texts have 苹果; whichever are held out of them are not counted."""
    data = make(validation=None, val_fraction=0.4, seed=1)
    parts = [[text.id for text in data._parts.texts(part)] for part in ("train", "validation")]
    assert [len(part) for part in parts] == [3, 2]
    assert sorted(parts[0] + parts[1]) == ["1", "2", "3", "4", "5"]
    kept = [text for text in TRAIN if text.id in parts[0]]
    number = data.kb.name_number("苹果")
    labeled = {name: count for name, count, _ in data.behavior.counts.tolist()}
    assert labeled.get(number, 0) == sum("苹果" in text.text for text in kept) < 3
    assert parts != [
        [text.id for text in make(validation=None, val_fraction=0.4, seed=2)._parts.texts(part)]
        for part in ("train", "validation")
    ]


def test_characters_come_from_training_texts_and_descriptions(make: Make) -> None:
    characters = make(min_count=1).characters
    assert characters[:2] == ["<padding>", "<unknown>"]
    assert {"吃", "州", "a"} <= set(characters)
    assert "丰" not in characters
    assert "州" not in make(min_count=2).characters


def test_no_entity_is_read_to_learn(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be 400,000 of them."""
    path = tmp_path / "words.txt"
    path.write_text("加州 1 2\n")
    monkeypatch.setattr(KnowledgeBase, "entity", lambda *_: pytest.fail("read"))
    data = make(word_vectors=str(path), min_count=1)
    assert "州" in data.characters
    assert data.word_vectors.tolist() == [[0, 0], [1, 2]]


def test_state_is_all_that_prediction_needs(make: Make) -> None:
    data = make()
    state = through_a_file(data.state_dict())
    again = make("predict", train=None, validation=None)
    assert again.characters == []
    assert again.state_dict() == {}
    again.load_state_dict(state)
    assert again.characters == data.characters
    assert same(again.encode(TRAIN), data.encode(TRAIN))
    text = text_of(1, "苹果")
    assert data.candidates_of(text, 0, 2, True).tolist() == again.candidates_of(text, 0, 2, True).tolist() == [1]
    assert data.candidates_of(text, 0, 2, False).tolist() == [0, 1, 2]
    mentions = [(0, 0, 2, again.candidates_of(text, 0, 2, False))]
    ((rows, _),), ((others, _),) = again.rows([text], mentions, 2), data.rows([text], mentions, 2)
    assert same(rows, others)


def test_training_texts_are_read_when_no_state_came(make: Make) -> None:
    state, data = make().state_dict(), make("predict")
    assert data.characters == []
    assert same(data.encode(TRAIN), make().encode(TRAIN))
    data = make("predict")
    data.load_state_dict(state)
    data.encode(TRAIN)
    assert "train.jsonl" not in data.report


def test_state_comes_before_what_was_learned_here(make: Make, tmp_path: Path) -> None:
    fewer = make(train=write_texts(tmp_path / "fewer.jsonl", TRAIN[:1]), min_count=1)
    data = make()
    data.encode(TRAIN)
    data.load_state_dict(fewer.state_dict())
    assert data.characters == fewer.characters
    assert same(data.encode(TRAIN), fewer.encode(TRAIN))


def test_state_of_another_knowledge_base(make: Make, tmp_path: Path) -> None:
    state = make().state_dict()
    with pytest.raises(ValueError, match="open the one that was trained with"):
        make(knowledge=write_knowledge(tmp_path / "other.jsonl", ENTITIES[:4])).load_state_dict(state)


@pytest.mark.parametrize("setting", [{"behavior": False}, {"whole_words": True}, {"segmenter": "whitespace"}])
def test_state_of_other_settings(setting: dict[str, Any], make: Make) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f"the checkpoint has {name}={value!r}, but {name} is .* here"):
        make().load_state_dict(make(**setting).state_dict())


def test_state_without_what_is_asked_for(make: Make, tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("1 1\n苹果 1\n")
    with pytest.raises(ValueError, match="the checkpoint has no word_vectors, but word_vectors is"):
        make(word_vectors=str(tmp_path / "vectors.txt")).load_state_dict(make().state_dict())


# ---- Predicting ----


def test_stream_of_texts_without_mentions(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(f'{{"text_id": "{n}", "text": "吃{n}梨"}}\n' for n in range(7)) + "no JSON\n")
    data = make(predict=str(path), batch_size=3)
    batches = list(data.predict_dataloader())
    assert [[text.id for text in batch["texts"]] for batch in batches] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert f"{path}: 7 texts, 0 mentions" in data.report
    assert f"1 lines that are not JSON, left out: {path}:8" in data.report
    data.skip_predictions = 5
    assert [[text.id for text in batch["texts"]] for batch in data.predict_dataloader()] == [["5", "6"]]


# ---- What is wrong ----


def test_report_names_file_and_line(make: Make, tmp_path: Path) -> None:
    mentions = '"mention_data": [{"kb_id": "%s", "mention": "%s", "offset": "%s"}]}'
    lines = [
        '{"text_id": "1", "text": "吃苹果", ' + mentions % ("11", "苹果", "0"),
        '{"text_id": "2", "text": "吃苹果", ' + mentions % ("77", "苹果", "1"),
        '{"text_id": "3", "text": "' + "长" * 30 + '"}',
        "[]",
        '{"text_id": "5", "text": "ＡＢ\\ud800😀梨", ' + mentions % ("13", "梨", "4"),
    ]
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(lines))
    data = make(train=str(path), max_length=20)
    assert f"{path}: 4 texts, 2 mentions" in data.report
    for number, problem in enumerate(
        [
            "mentions that do not stand at their offset",
            "kb_id is not in the",
            "over 20 char",
            "no objects",
            "surrogate",
        ],
        start=1,
    ):
        assert any(problem in line and f"{path}:{number}" in line for line in data.report.splitlines()), problem
    # Full-width letters, half a pair and a character of two halves: the pear stands where it is said to be.
    batch = data.encode(data._parts.texts("train"))
    assert batch["starts"][3].nonzero().tolist() == batch["matches"][3, :, 0].nonzero().tolist() == [[4]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "max_length is 0, but has to be at least 1"),
        ({"max_description": 0}, "max_description is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"candidates": 0}, "candidates is 0"),
        ({"min_count": 0}, "min_count is 0"),
        ({"rows_per_batch": 0}, "rows_per_batch is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"val_fraction": 1.5}, "val_fraction is 1.5, but has to be from 0 to 1"),
        ({"balance": -0.5}, "balance is -0.5, but has to be from 0 to 1"),
        ({"balance": 0.5, "candidates": 2}, "balance is for candidates=1, but candidates is 2"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EntityLinkingDataModule(**options)


def test_nothing_to_train_on(make: Make) -> None:
    with pytest.raises(ValueError, match="train is None, but has to be the path of a file with texts"):
        make(train=None)
    data = make("validate", train=None, validation=None)
    assert data.val_dataloader() == []
    for part in ("train", "test", "predict"):
        with pytest.raises(ValueError, match=f"{part} is None, but has to be the path of a file with texts"):
            getattr(data, f"{part}_dataloader")()
    with pytest.raises(ValueError, match="nothing was learned from training texts yet: give train, or a checkpoint"):
        data.encode(TRAIN)


def test_all_texts_held_out(make: Make) -> None:
    with pytest.raises(ValueError, match=r"val_fraction=1.0 leaves none of 5 texts for training"):
        make(validation=None, val_fraction=1.0)


@pytest.mark.parametrize("part", ["knowledge", "train", "validation"])
def test_missing_file(part: str, make: Make, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train\.jsnl.*does not exist; did you mean 'train.jsonl'"):
        make(**{part: str(tmp_path / "train.jsnl")})
