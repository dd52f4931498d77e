"""The automaton of a passage's spans beside all of its spans."""

import pytest
import torch

from lit_modules.parts.span_automaton import SpanAutomaton

END, BANNED = 1, (0, 2, 3)


def all_spans(passage: list[int], continuing: tuple[int, ...]) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
    """Spans without special tokens that begin with a word, and those of them that end with one; the empty one too."""
    begun, whole = {()}, set()
    inside = [
        token in continuing and number > 0 and passage[number - 1] not in {END, *BANNED}
        for number, token in enumerate(passage)
    ]
    for start in range(len(passage)):
        for end in range(start + 1, len(passage) + 1) if not inside[start] else ():
            span = tuple(passage[start:end])
            if not {END, *BANNED} & set(span):
                begun.add(span)
                if end == len(passage) or not inside[end]:
                    whole.add(span)
    return begun, whole


def expected(spans: tuple[set[tuple[int, ...]], set[tuple[int, ...]]], written: tuple[int, ...]) -> set[int]:
    begun, whole = spans
    longer = {span[-1] for span in begun if len(span) == len(written) + 1 and span[:-1] == written}
    return longer | ({END} if written in whole else set())


def random_passages(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of few tokens, so that they repeat, with special ones and with padding anywhere, which ends no span."""
    passage = torch.randint(0, 8, (rows, 12))
    return passage, torch.arange(12) < torch.randint(0, 13, (rows, 1))


def tokens_of(row: torch.Tensor) -> set[int]:
    return set(row.nonzero()[:, 0].tolist())


@pytest.mark.parametrize("continuing", [(), (6,), (5, 6)])
def test_beside_all_spans(continuing: tuple[int, ...]) -> None:
    passage, mask = random_passages(200)
    automaton = SpanAutomaton(passage, mask, end=END, banned=BANNED, continuing=continuing)
    spans = [all_spans(text[real].tolist(), continuing) for text, real in zip(passage, mask, strict=True)]
    written: list[tuple[int, ...]] = [()] * 200
    for step in range(8):
        allowed = automaton.allowed(8)
        assert allowed.shape == (len(written), 8)
        for row in range(len(written)):
            assert tokens_of(allowed[row]) == expected(spans[row], written[row])
        # Some end here, some wait, the others go on with any allowed token.
        going = allowed.index_fill(1, torch.tensor(END), False)
        active = going.any(dim=1) & (torch.rand(len(written)) < 0.8)
        tokens = (going.float() + 1e-9).multinomial(1)[:, 0]
        automaton.advance(tokens, active)
        written = [(*w, int(t)) if a else w for w, t, a in zip(written, tokens, active, strict=True)]
        if step == 2:
            rows = torch.randint(0, 200, (150,))
            automaton.select(rows)
            spans, written = [spans[row] for row in rows], [written[row] for row in rows]
    assert max(map(len, written)) > 3


def test_all_rows_advance_by_default() -> None:
    passage = torch.tensor([[4, 5, 4, 6], [7, 4, 4, 0]])
    automaton = SpanAutomaton(passage, passage != 0, end=END)
    automaton.advance(torch.tensor([4, 4]))
    assert [tokens_of(row) for row in automaton.allowed(8)] == [{END, 5, 6}, {END, 4}]


def test_a_token_that_is_no_continuation_leaves_only_the_end() -> None:
    automaton = SpanAutomaton(torch.tensor([[4, 5, 6]]), torch.ones(1, 3, dtype=torch.bool), end=END)
    automaton.advance(torch.tensor([7]))
    assert [tokens_of(row) for row in automaton.allowed(8)] == [{END}]
