import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors

from callbacks import ExponentialMovingAverage, Word2VecExport, write_word2vec
from callbacks import word2vec_export as code
from tests.callbacks.items import Catalogue, Vectors, random_vectors
from tests.callbacks.modules import lightning_noise, quiet_trainer

pytestmark = lightning_noise

ITEMS = ["the", "naïve", "图书馆", "C#", "'", "😀", "half\u2013way"]
# Of all magnitudes, with zero, minus zero and the smallest and largest numbers there are.
VECTORS = random_vectors(7, 5) * torch.tensor([[1e-30], [1e-5], [1.0], [1.0], [100.0], [1e6], [1e30]])
VECTORS[0, :4] = torch.tensor([0.0, -0.0, 1e-45, torch.finfo(torch.float32).max])


@pytest.mark.parametrize("name", ["vectors", "vectors.gz"])
@pytest.mark.parametrize("binary", [True, False])
def test_gensim_reads_the_very_same_numbers(tmp_path: Path, binary: bool, name: str) -> None:
    write_word2vec(tmp_path / name, ITEMS, VECTORS, binary)
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / name), binary=binary)
    assert theirs.index_to_key == ITEMS
    assert np.array_equal(theirs.vectors, VECTORS.numpy())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_text_format(tmp_path: Path) -> None:
    write_word2vec(tmp_path / "v.txt", ["a", "b"], torch.tensor([[0.5, -1.0], [0.1, 3e-7]], dtype=torch.float64))
    assert (tmp_path / "v.txt").read_text() == "2 2\na 0.5 -1\nb 0.100000001 3.00000011e-07\n"


def test_the_binary_format(tmp_path: Path) -> None:
    write_word2vec(tmp_path / "v.bin", ["a", "b"], torch.tensor([[0.5], [-2.0]]), binary=True)
    assert (tmp_path / "v.bin").read_bytes() == b"2 1\na \x00\x00\x00\x3f\nb \x00\x00\x00\xc0\n"


def test_many_rows_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items, vectors = [f"w{n}" for n in range(1000)], random_vectors(1000, 3)
    write_word2vec(tmp_path / "whole", items, vectors)
    monkeypatch.setattr(code, "_CHUNK", 7)
    write_word2vec(tmp_path / "parts", items, vectors)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()


def test_gzip_has_no_date_and_no_name(tmp_path: Path) -> None:
    for name in ("one.gz", "two.gz"):
        write_word2vec(tmp_path / name, ITEMS, VECTORS)
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()
    assert gzip.decompress((tmp_path / "one.gz").read_bytes()).startswith(b"7 5\n")


def test_white_space(tmp_path: Path) -> None:
    items = ["War and Peace", "of\u3000mice", "a\nb", "x y", "fine"]
    vectors = random_vectors(5, 2)
    message = r"have white space, as 'War and Peace', 'of\\u3000mice', 'a\\nb' and 1 others: write spaces='underscore'"
    with pytest.raises(ValueError, match=message):
        write_word2vec(tmp_path / "v.txt", items, vectors)
    write_word2vec(tmp_path / "v.txt", items, vectors, spaces="underscore")
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / "v.txt"))
    assert theirs.index_to_key == ["War_and_Peace", "of_mice", "a_b", "x_y", "fine"]


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        (["a", "", "c"], {}, r"items that are empty or have white space, as ''$"),
        (["a", "b", "a"], {}, "each item once; there are more of 'a'"),
        (["a b", "a_b", "c"], {"spaces": "underscore"}, "each item once; there are more of 'a_b'"),
        (["a", "b"], {}, r"vectors must be \(2, d\), a row for each item, got \(3, 2\)"),
        (["a", "b", "c"], {"spaces": "keep"}, "spaces must be 'error' or 'underscore', got 'keep'"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, items: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_word2vec(tmp_path / "v.txt", items, random_vectors(3, 2), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_not_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.txt"
    write_word2vec(path, ITEMS, VECTORS)
    before = path.read_bytes()

    def break_off(*arguments: Any) -> Iterator[bytes]:
        yield b"7 5\n"
        raise KeyboardInterrupt

    monkeypatch.setattr(code, "_lines", break_off)
    with pytest.raises(KeyboardInterrupt):
        write_word2vec(path, ITEMS, VECTORS)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "name", "binary"),
    [({}, "vectors.txt", False), ({"format": "binary"}, "vectors.bin", True), ({"filename": "v.gz"}, "v.gz", False)],
)
def test_a_run_ends_with_a_file(tmp_path: Path, arguments: dict[str, Any], name: str, binary: bool) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[Word2VecExport(**arguments)])
    trainer.fit(Vectors(ITEMS, VECTORS), Catalogue())
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / name), binary=binary)
    assert np.array_equal(theirs.vectors, VECTORS.numpy())


class Moving(Vectors):
    """Training moves its vectors."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.table.sum()


def test_averaged_weights_are_written(tmp_path: Path) -> None:
    callbacks = [Word2VecExport(), ExponentialMovingAverage("", decay=0.5)]
    module = Moving(ITEMS, VECTORS[:, 4:])
    quiet_trainer(default_root_dir=tmp_path, callbacks=callbacks).fit(module, Catalogue())
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / "vectors.txt"))
    average = callbacks[1].state_dict()["average"]["table"]
    assert np.array_equal(theirs.vectors, average.numpy())
    assert not torch.equal(average, module.table)


def test_items_are_refused_before_training(tmp_path: Path) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[Word2VecExport()])
    with pytest.raises(ValueError, match="as 'War and Peace': write spaces='underscore'"):
        trainer.fit(Vectors(["War and Peace"], VECTORS[:1]), Catalogue())
    assert trainer.global_step == 0


@pytest.mark.parametrize("arguments", [{"format": "bin"}, {"spaces": "no"}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be '\w+' or '\w+', got"):
        Word2VecExport(**arguments)


@pytest.mark.slow
def test_only_rank_0_of_two_processes_writes(tmp_path: Path) -> None:
    trainer = quiet_trainer(
        default_root_dir=tmp_path, devices=2, strategy="ddp_spawn", callbacks=[Word2VecExport(format="binary")]
    )
    trainer.fit(Vectors(ITEMS, VECTORS), Catalogue())
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / "vectors.bin"), binary=True)
    assert np.array_equal(theirs.vectors, VECTORS.numpy())
