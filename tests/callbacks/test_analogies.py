import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from torch import Tensor

from callbacks import WordAnalogies
from callbacks import analogies as code
from tests.callbacks.items import Catalogue, Vectors, random_vectors, validate
from tests.callbacks.modules import lightning_noise, quiet_trainer

pytestmark = lightning_noise

# Two directions that add: royalty and sex; and a word far from all.
WORDS = {"man": (1, 0, 0), "woman": (1, 1, 0), "king": (1, 0, 1), "queen": (1, 1, 1), "stone": (-1, -1, -1)}
ITEMS = list(WORDS)
VECTORS = torch.tensor(list(WORDS.values()), dtype=torch.float32)


def questions(path: Path, text: str = ": family\nman woman king queen\n") -> str:
    path.write_text(text)
    return str(path)


def test_answers_known_beforehand(tmp_path: Path) -> None:
    text = ": family\nman woman king queen\nman king stone woman\n: towns\nking Oslo man Paris\nking man queen woman\n"
    logged = validate(tmp_path, WordAnalogies(questions(tmp_path / "q.txt", text)), ITEMS, VECTORS)
    assert logged == {"val/analogy": pytest.approx(2 / 3), "val/analogy_oov": 1}
    with (tmp_path / "media" / "analogy-step=0000000.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["group", "right", "known", "unknown", "accuracy"]
    assert rows == [["family", "1", "2", "0", "0.5"], ["towns", "1", "1", "1", "1.0"]]


def test_case(tmp_path: Path) -> None:
    path = questions(tmp_path / "q.txt", ": family\nMan Woman King Queen\nman woman king queen\n")
    assert validate(tmp_path, WordAnalogies(path), ITEMS, VECTORS) == {"val/analogy": 1, "val/analogy_oov": 0}
    logged = validate(tmp_path, WordAnalogies(path, ignore_case=False), ITEMS, VECTORS)
    assert logged == {"val/analogy": 1, "val/analogy_oov": 1}


def test_only_the_first_items_are_known(tmp_path: Path) -> None:
    path = questions(tmp_path / "q.txt", ": g\nman woman king queen\nking man queen woman\nman king woman stone\n")
    logged = validate(tmp_path, WordAnalogies(path, restrict=4), ITEMS, VECTORS)
    assert logged == {"val/analogy": 1, "val/analogy_oov": 1}


def planted(number: int) -> tuple[list[str], Tensor]:
    """Random vectors for words w0, w1, ... of which w2i + offset = w2i+1 nearly; some words also in upper case."""
    base = random_vectors(number, 12)
    shifted = base + random_vectors(1, 12, seed=1) + 0.55 * random_vectors(number, 12, seed=2)
    vectors = torch.stack([base, shifted], dim=1).flatten(0, 1)
    items = [f"w{i}" for i in range(2 * number)]
    again = random_vectors(number // 2, 12, seed=3) * 0.05 + vectors[: number // 2]
    return items + [f"W{i}" for i in range(number // 2)], torch.cat([vectors, again])


@pytest.mark.parametrize("restrict", [120, 330, None])
@pytest.mark.parametrize("ignore_case", [True, False])
def test_as_gensim_has_it(tmp_path: Path, restrict: int | None, ignore_case: bool) -> None:
    items, vectors = planted(160)
    draw = np.random.default_rng(0)
    lines = [f"w{2 * i} w{2 * i + 1} w{2 * j} w{2 * j + 1}" for i, j in draw.integers(0, 180, (600, 2)) if i != j]
    path = questions(tmp_path / "q.txt", ": one\n" + "\n".join(lines[:200]) + "\n: two\n" + "\n".join(lines[200:]))
    theirs = KeyedVectors(12)
    theirs.add_vectors(items, vectors.numpy())
    # gensim takes no None here, against its own documentation of `most_similar`.
    score, sections = theirs.evaluate_word_analogies(path, restrict or len(items), case_insensitive=ignore_case)
    logged = validate(tmp_path, WordAnalogies(path, restrict, ignore_case), items, vectors)
    known = len(sections[-1]["correct"]) + len(sections[-1]["incorrect"])
    assert logged["val/analogy"] == pytest.approx(score, abs=1e-6)
    assert 0.1 < score < 0.9
    assert logged["val/analogy_oov"] == len(lines) - known
    with next((tmp_path / "media").glob("analogy-*.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["right"]) for row in rows] == [len(section["correct"]) for section in sections[:-1]]


def test_all_words_of_one_spelling_are_left_out() -> None:
    vectors = torch.cat([VECTORS, VECTORS[2:3]])
    spellings = torch.tensor([[0, 0], [1, 1], [2, 5], [3, 3], [4, 4], [2, 5]])
    assert code.answers(vectors, spellings, torch.tensor([[0, 1, 2], [1, 0, 2]])).tolist() == [3, 3]
    assert code.answers(vectors, torch.arange(6)[:, None], torch.tensor([[1, 0, 2]])).tolist() == [5]


def test_words_that_no_question_has_are_refused_before_training(tmp_path: Path) -> None:
    callback = WordAnalogies(questions(tmp_path / "q.txt", ": g\nAthen Griechenland Oslo Norwegen\n"))
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[callback])
    with pytest.raises(ValueError, match=r"q\.txt: no question .* the first 5 items .* 'Athen', 'Griechenland'"):
        trainer.fit(Vectors(ITEMS, VECTORS), Catalogue())
    assert trainer.global_step == 0


def test_arguments_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="restrict must be at least 1, got 0"):
        WordAnalogies(questions(tmp_path / "q.txt"), restrict=0)
