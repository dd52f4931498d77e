from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from sklearn.decomposition import PCA

from callbacks import ItemScatter
from callbacks import item_scatter as code
from tests.callbacks.items import Catalogue, Vectors, random_vectors, validate
from tests.callbacks.modules import Images, TinyClassifier, lightning_noise, quiet_trainer
from tests.callbacks.test_code_scatter import colors

pytestmark = lightning_noise

N = 60
ITEMS = [f"item {number}" for number in range(N)]
SUBJECTS = {"labels": torch.arange(N) % 4, "label_names": ["history", "poetry", "physics", "music"]}


def drawn(monkeypatch: pytest.MonkeyPatch, folder: Path, callback: ItemScatter, dim: int, **known: Any) -> list[Any]:
    """What a validation draws."""
    given: list[Any] = []
    scatter = code.item_scatter
    monkeypatch.setattr(code, "item_scatter", lambda *things: given.extend(things) or scatter(*things))
    assert validate(folder, callback, ITEMS, random_vectors(N, dim), Catalogue(**known)) == {}
    assert [path.name for path in folder.rglob("*.*")] == ["items-step=0000000.png"]
    return given


@pytest.mark.parametrize("dim", [2, 3])
def test_the_most_frequent_items_are_drawn_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dim: int
) -> None:
    counts = torch.arange(N).double()
    points, labels, names, titles, title = drawn(
        monkeypatch, tmp_path, ItemScatter(10, titles=3), dim, counts=counts, **SUBJECTS
    )
    assert np.array_equal(points, random_vectors(N, dim).flip(0)[:10].numpy())
    assert labels.tolist() == [n % 4 for n in range(N - 1, N - 11, -1)]
    assert names == SUBJECTS["label_names"]
    assert titles == ["item 59", "item 58", "item 57"]
    assert title == ""


def test_of_longer_vectors_the_main_components(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    points, labels, names, titles, title = drawn(monkeypatch, tmp_path, ItemScatter(), 6)
    theirs = PCA(2).fit(random_vectors(N, 6).numpy())
    expected = theirs.transform(random_vectors(N, 6).numpy())
    assert np.allclose(np.abs(points), np.abs(expected), atol=1e-4)
    assert title == f"two main components of 6 ({theirs.explained_variance_ratio_.sum():.0%} of the variance)"
    assert (labels, names, titles) == (None, [], [])


def test_components_do_not_flip() -> None:
    vectors = random_vectors(N, 6).numpy()
    points, _ = code.plane(vectors)
    assert np.allclose(code.plane(vectors + 1e-4 * random_vectors(N, 6, 1).numpy())[0], points, atol=0.02)
    assert np.allclose(code.plane(-vectors)[0], -points, atol=1e-4)


def test_vectors_of_one_dimension_lie_on_a_line() -> None:
    points, title = code.plane(np.array([[1.0], [3.0], [8.0]]))
    assert np.allclose(points, [[-3, 0], [-1, 0], [4, 0]])
    assert title == "two main components of 1 (100% of the variance)"


@pytest.mark.parametrize("dim", [2, 3])
def test_each_label_has_a_color(dim: int) -> None:
    points = random_vectors(N, dim).numpy()
    assert colors(code.item_scatter(points, SUBJECTS["labels"].numpy(), SUBJECTS["label_names"])) == 4
    assert colors(code.item_scatter(points, None, [])) == 1
    many = np.arange(N) % 50
    assert code.item_scatter(points, many, [str(n) for n in range(50)]).size == (800, 600)


def test_titles_are_no_formulas() -> None:
    points = np.zeros((3, 2)) + np.arange(3)[:, None]
    code.item_scatter(points, None, [], ["$ and $", "$\\frac{", "a_b^"])


def test_what_no_font_can_write_is_numbered() -> None:
    points = np.zeros((3, 2)) + np.arange(3)[:, None]
    with pytest.warns(UserWarning, match=r"no installed font can write .* \(1 of 2 names\): pictures show numbers"):
        code.item_scatter(points, np.array([0, 1, 1]), ["history", "\U0010ffff"])


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    validate(tmp_path, ItemScatter(), ITEMS, random_vectors(N, 3))
    assert pyplot.get_fignums() == []


def test_every_n_steps(tmp_path: Path) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, max_epochs=2, callbacks=[ItemScatter(every_n_steps=3)])
    trainer.fit(Vectors(ITEMS, random_vectors(N, 2)), Catalogue())
    assert [path.name for path in tmp_path.rglob("*.png")] == ["items-step=0000003.png"]


def test_labels_of_other_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the datamodule's labels are 3, the module's items 60"):
        validate(tmp_path, ItemScatter(), ITEMS, random_vectors(N, 2), Catalogue(labels=torch.zeros(3)))


@pytest.mark.parametrize("arguments", [{"num_points": 0}, {"titles": -1}, {"every_n_steps": 0}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least"):
        ItemScatter(**arguments)


def test_a_module_without_vectors_is_named() -> None:
    with pytest.raises(TypeError, match=r"ItemScatter needs a module with item_vectors\(\), which TinyClassifier"):
        quiet_trainer(callbacks=[ItemScatter()]).fit(TinyClassifier(), Images())
