"""The metrics equal a count by hand and torchmetrics', on one process and on two."""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from torchmetrics import Metric
from torchmetrics.functional.text import bleu_score, squad

from lit_modules.parts.generation_metrics import (
    AnswerInPassage,
    AnswerOverlap,
    Distinct,
    QuestionOverlap,
    answer_words,
    words,
)
from tests.lit_modules.metric_processes import as_floats, on_two_processes

Texts = list[str]


def some_texts(number: int, seed: int = 0) -> tuple[Texts, list[Texts]]:
    """Generated texts and their references: few words, so that many are right; some empty, articles, punctuation."""
    draw = random.Random(seed)

    def text(length: int) -> str:
        return " ".join(draw.choice(["a", "The", "cat", "cat,", "dog", "U.S.", "sat", "7"]) for _ in range(length))

    references = [[text(draw.randint(1, 9)) for _ in range(draw.randint(1, 3))] for _ in range(number)]
    return [draw.choice([*gold, text(draw.randint(0, 9))]) for gold in references], references


def chinese(texts: Texts) -> Texts:
    """The same with a character for each word, without spaces."""
    signs = {"a": "的", "The": "了", "cat": "猫", "cat,": "猫，", "dog": "狗", "U.S.": "美", "sat": "坐", "7": "七"}
    return ["".join(signs[word] for word in text.split()) for text in texts]


def common(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence."""

    @cache
    def of(i: int, j: int) -> int:
        if not i or not j:
            return 0
        return of(i - 1, j - 1) + 1 if left[i - 1] == right[j - 1] else max(of(i - 1, j), of(i, j - 1))

    return of(len(left), len(right))


# ---- Words ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("泼水节又叫什么？", ["泼", "水", "节", "又", "叫", "什", "么"]),
        ("iPhone６发布于２０１４年。", ["iphone6", "发", "布", "于", "2014", "年"]),
        ("The U.S. spent $3.5 on well-known ﬁsh!", ["the", "us", "spent", "35", "on", "wellknown", "fish"]),
        ("々〇カタ ひら 𠀀a", ["々", "〇", "カ", "タ", "ひ", "ら", "𠀀", "a"]),
        ("«»、。…", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_answers_have_no_articles() -> None:
    assert answer_words("The cat and an A.") == ["cat", "and"]


# ---- Answers ----


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_answers_are_counted_as_squad_does(batch_size: int) -> None:
    answers, references = some_texts(100)
    metric = AnswerOverlap()
    for start in range(0, 100, batch_size):
        metric.update(answers[start : start + batch_size], references[start : start + batch_size])
    asked = [
        {"answers": {"answer_start": [0] * len(gold), "text": gold}, "id": str(number)}
        for number, gold in enumerate(references)
    ]
    expected = squad([{"prediction_text": a, "id": str(n)} for n, a in enumerate(answers)], asked)
    assert 20 < expected["exact_match"] < expected["f1"] < 90
    wanted = {name: float(value) / 100 for name, value in expected.items()}
    assert as_floats(metric) == pytest.approx(wanted, abs=1e-6)


def test_known_answers() -> None:
    metric = AnswerOverlap()
    metric.update(["宋干节", "七百年", "傣族、德昂族", ""], [["宋干节。", "x"], ["七百多年"], ["x", "傣族"], ["的"]])
    # The second has 3 of 3 and of 4 characters, the third 2 of 5 and of 2.
    assert as_floats(metric) == pytest.approx({"exact_match": 1 / 4, "f1": (1 + 6 / 7 + 4 / 7) / 4})


def test_answers_in_their_passages() -> None:
    metric = AnswerInPassage()
    passage = "泼水节又名 宋干节，已有 700 多年的历史。"
    metric.update(["宋干节", "宋干节 已有７００", "干宋", "", " 。", "；", " "], [passage] * 7)
    assert as_floats(metric) == pytest.approx({"value": 3 / 7})


# ---- Questions ----


@pytest.mark.parametrize("in_chinese", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_questions_are_counted_as_by_hand(batch_size: int, in_chinese: bool) -> None:
    questions, references = some_texts(100)
    cut = [words(question) for question in questions]
    gold = [[words(reference) for reference in row] for row in references]
    if in_chinese:
        questions, references = chinese(questions), [chinese(row) for row in references]
    metric = QuestionOverlap()
    for start in range(0, 100, batch_size):
        metric.update(questions[start : start + batch_size], references[start : start + batch_size])
    rouge = [
        max(2 * common(own, right) / (len(own) + len(right)) for right in row)
        for own, row in zip(cut, gold, strict=True)
    ]
    bleu = bleu_score([" ".join(own) for own in cut], [[" ".join(right) for right in row] for row in gold])
    assert 0.2 < bleu < 0.9
    assert as_floats(metric) == pytest.approx({"rouge_l": sum(rouge) / 100, "bleu": float(bleu)}, abs=1e-6)


def test_short_questions_pay_for_it() -> None:
    metric = QuestionOverlap()
    metric.update(["泼水节叫"], [["泼水节叫什么"]])
    assert as_floats(metric) == pytest.approx({"rouge_l": 8 / 10, "bleu": float(torch.tensor(1 - 6 / 4).exp())})


# ---- Variety ----


@pytest.mark.parametrize("n", [1, 2, 3])
def test_distinct_grams(n: int) -> None:
    texts = some_texts(100)[0]
    metric = Distinct(n)
    for start in range(0, 100, 7):
        metric.update(texts[start : start + 7])
    grams = [tuple(words(text)[i : i + n]) for text in texts for i in range(len(words(text)) - n + 1)]
    assert as_floats(metric) == {"value": pytest.approx(len(set(grams)) / len(grams))}


def test_a_question_said_twice_is_half_as_distinct() -> None:
    metric = Distinct()
    metric.update(["泼水节又叫什么？", "泼水节又叫什么"])
    assert as_floats(metric) == {"value": 0.5}


# ---- All ----


def updated(batches: Sequence[Sequence[int]]) -> list[Metric]:
    """All metrics of some of 100 texts, for one of two processes."""
    texts, references = some_texts(100)
    metrics = [AnswerOverlap(), QuestionOverlap(), AnswerInPassage(), Distinct(1), Distinct(2)]
    for batch in batches:
        own, gold = [texts[n] for n in batch], [references[n] for n in batch]
        for metric in metrics[:2]:
            metric.update(own, gold)
        metrics[2].update(own, [row[0] for row in gold])
        for metric in metrics[3:]:
            metric.update(own)
    return metrics


@pytest.mark.slow
def test_two_processes_with_uneven_batches_equal_one(tmp_path: Path) -> None:
    expected = [as_floats(metric) for metric in updated([range(100)])]
    assert on_two_processes(__name__, tmp_path) == [expected * 2] * 2


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_nothing_generated_and_reset() -> None:
    for metric, full in zip(updated([]), updated([range(100)]), strict=True):
        assert set(as_floats(metric).values()) == {0.0}
        assert min(as_floats(full).values()) > 0
        full.reset()
        assert set(as_floats(full).values()) == {0.0}


def test_half_precision_leaves_counts_exact() -> None:
    expected = [as_floats(metric) for metric in updated([range(100)])]
    module = torch.nn.ModuleList(updated([range(100)])).to(torch.bfloat16)
    assert [as_floats(metric) for metric in module] == expected  # type: ignore[arg-type]


def test_updates_after_an_evaluation_in_inference_mode() -> None:
    expected, metrics = updated([range(100)]), updated([])
    with torch.inference_mode():
        for metric in metrics:
            metric.reset()
    texts, references = some_texts(100)
    metrics[0].update(texts, references)
    metrics[1].update(texts, references)
    metrics[3].update(texts)
    for number in (0, 1, 3):
        assert as_floats(metrics[number]) == as_floats(expected[number])


def test_texts_need_their_references() -> None:
    for metric in (AnswerOverlap(), QuestionOverlap()):
        with pytest.raises(ValueError, match="there are 1 generated texts and 2 to compare them with"):
            metric.update(["a"], [["a"], ["b"]])
        for wrong in ([], "a"):
            with pytest.raises(ValueError, match="'x' has"):
                metric.update(["x"], [wrong])
    with pytest.raises(ValueError, match="there are 1 generated texts and 0"):
        AnswerInPassage().update(["a"], [])
