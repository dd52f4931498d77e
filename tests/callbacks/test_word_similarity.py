import math
from pathlib import Path
from typing import Any

import pytest
import torch
from gensim.models import KeyedVectors
from gensim.test.utils import datapath

from callbacks import ExponentialMovingAverage, NonFiniteError, WordSimilarity
from callbacks.word_files import read_word_pairs
from tests.callbacks.items import Catalogue, Vectors, random_vectors, validate
from tests.callbacks.modules import Images, TinyClassifier, lightning_noise, quiet_trainer

pytestmark = lightning_noise


def pairs_file(path: Path, *rows: tuple[str, str, float]) -> str:
    path.write_text("".join(f"{left}\t{right}\t{score}\n" for left, right, score in rows))
    return str(path)


# On a half circle: the angles of "a" to the others are their numbers.
ANGLES = {"a": 0.0, "b": 0.5, "c": 1.0, "d": 1.5}
CIRCLE = torch.tensor([[math.cos(angle), math.sin(angle)] for angle in ANGLES.values()])


@pytest.mark.parametrize(("scores", "expected"), [((3, 2, 1), 1.0), ((1, 2, 3), -1.0), ((3, 1, 2), 0.5)])
def test_correlations_known_beforehand(tmp_path: Path, scores: tuple[float, ...], expected: float) -> None:
    rows = zip("aaa", "bcd", scores, strict=True)
    logged = validate(tmp_path, WordSimilarity(pairs_file(tmp_path / "p.tsv", *rows)), list(ANGLES), CIRCLE)
    assert logged == {"val/wordsim": pytest.approx(expected, abs=1e-5), "val/wordsim_oov": 0}


def test_distance_instead_of_cosine(tmp_path: Path) -> None:
    # The cosine sees directions only, and says the opposite.
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.3], [9.0, 0.0], [1.5, 0.2]])
    path = pairs_file(tmp_path / "p.tsv", ("a", "b", 3), ("a", "d", 2), ("a", "c", 1))
    for metric, expected in (("distance", 1.0), ("cosine", -1.0)):
        logged = validate(tmp_path, WordSimilarity(path, metric), list("abcd"), vectors)
        assert logged["val/wordsim"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("ignore_case", [True, False])
@pytest.mark.parametrize("file", ["wordsim353.tsv", "simlex999.txt"])
def test_as_gensim_has_it(tmp_path: Path, file: str, ignore_case: bool) -> None:
    path = datapath(file)
    words = sorted({word for pair in read_word_pairs(path) for word in (pair.left, pair.right)})
    # A part of them; some twice, in upper case the second time.
    items = words[::2] + words[1::5] + [word.upper() for word in words[:40]]
    items = list(dict.fromkeys(items))
    vectors = random_vectors(len(items), 20)
    theirs = KeyedVectors(20)
    theirs.add_vectors(items, vectors.numpy())
    _, (spearman, _), unknown = theirs.evaluate_word_pairs(path, case_insensitive=ignore_case)
    logged = validate(tmp_path, WordSimilarity(path, ignore_case=ignore_case), items, vectors)
    assert logged["val/wordsim"] == pytest.approx(spearman, abs=1e-5)
    assert logged["val/wordsim_oov"] == round(unknown / 100 * len(read_word_pairs(path)))
    assert 0 < logged["val/wordsim_oov"] < len(read_word_pairs(path))


def test_several_files_have_names(tmp_path: Path) -> None:
    rows = [("a", "b", 3.0), ("a", "c", 2.0), ("a", "x", 1.0)]
    first, second = (pairs_file(tmp_path / name, *rows) for name in ("one.tsv", "two.txt"))
    logged = validate(tmp_path, WordSimilarity([first, second]), list(ANGLES), CIRCLE)
    assert set(logged) == {"val/wordsim_one", "val/wordsim_one_oov", "val/wordsim_two", "val/wordsim_two_oov"}
    logged = validate(tmp_path, WordSimilarity({"easy": first}), list(ANGLES), CIRCLE)
    assert logged == {"val/wordsim_easy": pytest.approx(1, abs=1e-5), "val/wordsim_easy_oov": 1}


def test_files_with_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    same = [pairs_file(tmp_path / name, ("a", "b", 1)) for name in ("one.tsv", "other/one.tsv")]
    with pytest.raises(ValueError, match=r"one name: .*one\.tsv.*one\.tsv; give names"):
        WordSimilarity(same)


@pytest.mark.parametrize(("arguments", "message"), [({"metric": "cosin"}, "got 'cosin'"), ({"path": []}, "got none")])
def test_arguments_out_of_range_are_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WordSimilarity(**({"path": pairs_file(tmp_path / "p.tsv", ("a", "b", 1))} | arguments))


def test_unknown_words_are_refused_before_training(tmp_path: Path) -> None:
    path = pairs_file(tmp_path / "p.tsv", ("虎", "猫", 1), ("a", "b", 2))
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[WordSimilarity(path)])
    with pytest.raises(ValueError, match="wordsim: the module knows both words of 1 of 2 pairs, such as '虎'"):
        trainer.fit(Vectors(list(ANGLES), CIRCLE), Catalogue())
    assert trainer.global_step == 0


def test_a_module_without_vectors_is_named(tmp_path: Path) -> None:
    callback = WordSimilarity(pairs_file(tmp_path / "p.tsv", ("a", "b", 1)))
    with pytest.raises(TypeError, match=r"WordSimilarity needs a module with item_vectors\(\), which TinyClassifier"):
        quiet_trainer(callbacks=[callback]).fit(TinyClassifier(), Images())


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        (CIRCLE.log(), NonFiniteError, r"vectors of Vectors hold NaN or infinity \(1 of 4 items, 'a' for one\)"),
        (CIRCLE[:3], ValueError, r"a row for each of its 4 items, got a tensor of shape \(3, 2\)"),
    ],
)
def test_vectors_that_are_none_are_refused(
    tmp_path: Path, vectors: torch.Tensor, error: type[Exception], message: str
) -> None:
    callback = WordSimilarity(pairs_file(tmp_path / "p.tsv", ("a", "b", 1), ("a", "c", 2)))
    with pytest.raises(error, match=message):
        validate(tmp_path, callback, list(ANGLES), vectors)


class Drawing(Vectors):
    """Draws when it is asked for its vectors, and moves them when it is trained."""

    def item_vectors(self) -> tuple[list[str], torch.Tensor]:
        assert not self.training
        torch.rand(3)
        return super().item_vectors()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return (self.table * torch.rand_like(self.table)).sum()


def test_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    path = pairs_file(tmp_path / "p.tsv", ("a", "b", 3), ("a", "c", 2))
    tables = []
    for callbacks in ([], [WordSimilarity(path)]):
        torch.manual_seed(1)
        module = Drawing(list(ANGLES), CIRCLE)
        trainer = quiet_trainer(
            default_root_dir=tmp_path, max_epochs=2, val_check_interval=1, num_sanity_val_steps=1, callbacks=callbacks
        )
        trainer.fit(module, Catalogue())
        tables.append(module.table.detach())
    assert torch.equal(*tables)
    assert not torch.equal(tables[0], CIRCLE)


class Averaging(Vectors):
    """Its average has other vectors than it has itself."""

    def on_train_batch_end(self, *arguments: Any) -> None:
        with torch.no_grad():
            self.table.copy_(self.table.flip(0))


def test_averaged_weights_are_judged(tmp_path: Path) -> None:
    path = pairs_file(tmp_path / "p.tsv", ("a", "b", 3), ("a", "d", 2), ("b", "d", 1))
    callback = WordSimilarity(path)
    judged: list[torch.Tensor] = []
    measure = callback.measure
    callback.measure = lambda trainer, items, vectors: (
        judged.append(vectors.clone())
        or measure(  # type: ignore
            trainer, items, vectors
        )
    )
    average = ExponentialMovingAverage("", decay=0.75)
    module = Averaging(list(ANGLES), CIRCLE)
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[callback, average], num_sanity_val_steps=1)
    trainer.fit(module, Catalogue())
    (vectors,) = judged
    assert torch.allclose(vectors, average.state_dict()["average"]["table"])
    assert not torch.allclose(vectors, module.table)


@pytest.mark.slow
def test_two_processes_log_the_same(tmp_path: Path) -> None:
    path = pairs_file(tmp_path / "p.tsv", ("a", "b", 3), ("a", "c", 1), ("a", "d", 2))
    trainer = quiet_trainer(
        default_root_dir=tmp_path, devices=2, strategy="ddp_spawn", callbacks=[WordSimilarity(path)]
    )
    trainer.fit(Vectors(list(ANGLES), CIRCLE), Catalogue())
    assert float(trainer.callback_metrics["val/wordsim"]) == pytest.approx(0.5, abs=1e-5)
