"""The metrics equal a count by hand, on one process and on two."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from torchmetrics import Metric

from lit_modules.parts.linking_metrics import Link, LinkingAccuracy, LinkingF1, MentionF1
from tests.lit_modules.metric_processes import as_floats, on_two_processes

Texts = Sequence[Sequence[Link]]


def some_texts(number: int, seed: int = 0) -> tuple[Texts, Texts]:
    """Right and predicted links of texts: few places and ids, so that all kinds of mistakes occur; NILs; duplicates."""
    draw = random.Random(seed)

    def links(ids_of: int) -> list[Link]:
        places = [(start, start + draw.randint(1, 2)) for start in range(0, 10, 2) if draw.random() < 0.6]
        return [(*place, draw.choice(["1", "2", "3", "NIL", None])) for place in places for _ in range(ids_of)]

    # A gold mention may stand twice, and have two ids.
    gold = [links(draw.choice([1, 1, 2])) for _ in range(number)]
    return [links(1) * draw.choice([1, 2]) for _ in range(number)], gold


def is_nil(link: Link) -> bool:
    return link[2] in (None, "NIL")


def brute_force(predicted: Texts, gold: Texts, cut: int) -> dict[str, float]:
    """Counted as the competition does: one list of everything, each item with the number of its text.

    `cut` 2 compares places only, 3 ids too.
    """
    found, right = (
        list({(number, *link[:cut]) for number, links in enumerate(texts) for link in links if not is_nil(link)})
        for texts in (predicted, gold)
    )
    correct = sum(item in right for item in found)
    precision, recall = correct / len(found), correct / len(right)
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / (precision + recall)}


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_f1_equals_a_brute_force_count(batch_size: int) -> None:
    predicted, gold = some_texts(100)
    mentions, links = MentionF1(), LinkingF1()
    for start in range(0, 100, batch_size):
        batch = predicted[start : start + batch_size], gold[start : start + batch_size]
        mentions.update(*batch)
        links.update(*batch)
    assert as_floats(mentions) == pytest.approx(brute_force(predicted, gold, 2))
    assert as_floats(links) == pytest.approx(brute_force(predicted, gold, 3))


def test_accuracy_equals_a_brute_force_count() -> None:
    predicted, gold = some_texts(100)
    metric = LinkingAccuracy()
    metric.update(predicted, gold)
    answers = [(n, link) for n, links in enumerate(gold) for link in set(links) if not is_nil(link)]
    expected = sum(link in predicted[n] for n, link in answers) / len(answers)
    assert as_floats(metric) == {"value": pytest.approx(expected)}


def test_known_answers() -> None:
    gold: Texts = [[(0, 2, "a"), (4, 6, "b"), (8, 9, "NIL")], [(0, 1, None)], [(3, 5, "c")]]
    predicted: Texts = [[(0, 2, "a"), (0, 2, "a"), (4, 6, "x"), (8, 9, "b")], [(0, 1, "NIL")], []]
    mentions, links, accuracy = MentionF1(), LinkingF1(), LinkingAccuracy()
    for metric in (mentions, links, accuracy):
        metric.update(predicted, gold)
    # Found are (0, 2), (4, 6) and (8, 9), which is NIL and wrong; right are (0, 2), (4, 6) and (3, 5).
    assert as_floats(mentions) == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3})
    assert as_floats(links) == pytest.approx({"precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3})
    assert as_floats(accuracy) == pytest.approx({"value": 1 / 3})


def test_mentions_need_no_ids() -> None:
    metric = MentionF1()
    metric.update([[(0, 2), (4, 6)]], [[(0, 2, "a"), (7, 8, "NIL"), (9, 10, "b")]])
    assert as_floats(metric) == {"precision": 0.5, "recall": 0.5, "f1": 0.5}


@pytest.mark.parametrize("kind", [MentionF1, LinkingF1, LinkingAccuracy])
def test_nothing_found_and_reset(kind: type[Metric]) -> None:
    metric = kind()
    metric.update([[], []], [[], []])
    assert set(as_floats(metric).values()) == {0.0}
    metric.update([[(0, 1, "a")]], [[(0, 1, "a")]])
    assert set(as_floats(metric).values()) == {1.0}
    metric.reset()
    metric.update([[(0, 1, "a")]], [[(0, 2, "a")]])
    assert set(as_floats(metric).values()) == {0.0}


def test_counts_are_exact_beyond_float32() -> None:
    metric = LinkingF1()
    metric.correct = metric.correct + 2**24
    metric.update([[(0, 1, "a")]], [[(0, 1, "a")]])
    assert int(metric.correct) == 2**24 + 1


def test_each_text_needs_an_answer() -> None:
    for metric in (MentionF1(), LinkingF1(), LinkingAccuracy()):
        with pytest.raises(ValueError, match="predicted has 1 texts and gold 2"):
            metric.update([[]], [[], []])


def test_accuracy_takes_one_id_a_mention() -> None:
    with pytest.raises(ValueError, match="more than one predicted id"):
        LinkingAccuracy().update([[(0, 1, "a"), (0, 1, "b")]], [[(0, 1, "a")]])


def updated(batches: Sequence[Sequence[int]]) -> list[Metric]:
    """Metrics of some of 100 texts, for one of two processes."""
    predicted, gold = some_texts(100)
    metrics = [MentionF1(), LinkingF1(), LinkingAccuracy()]
    for batch in batches:
        for metric in metrics:
            metric.update([predicted[n] for n in batch], [gold[n] for n in batch])
    return metrics


@pytest.mark.slow
def test_two_processes_with_uneven_batches_equal_one(tmp_path: Path) -> None:
    expected = [as_floats(metric) for metric in updated([range(100)])]
    assert on_two_processes(__name__, tmp_path) == [expected * 2] * 2
