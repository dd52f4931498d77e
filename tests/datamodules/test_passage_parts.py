"""The split by passage, and what the caches hang on."""

from datamodules.passage_files import Answer, Question
from datamodules.passage_parts import together


def test_passages_with_a_question_in_common_are_together() -> None:
    """a-b by one question, c-d by another, b-d by a third; e is alone; f asks e's question in other words."""
    asked = [("a", "1"), ("b", "1"), ("c", "2"), ("e", "4"), ("d", "2"), ("b", "3"), ("f", "4 "), ("d", "3")]
    questions = [Question(passage, text, (Answer("x"),), 1) for passage, text in asked]
    assert together(questions) == [["a", "b", "c", "d"], ["e"], ["f"]]
    assert together(questions[:3]) == [["a", "b"], ["c"]]
    assert together([]) == []
