"""What training texts say about names: labels, matches, links; and how far one gets with that alone."""

import io
from pathlib import Path

import pytest
import torch

from datamodules.behavior import Behavior, frequency_baseline
from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_files import LinkingText, Mention, read_texts
from datamodules.problems import Problems
from tests.datamodules.knowledge import entity, named, opened


def labelled(text: str, *mentions: tuple[str, str | None]) -> LinkingText:
    """A text that links these strings, each where it first stands."""
    found = (Mention(text.index(name), text.index(name) + len(name), link) for name, link in mentions)
    return LinkingText("1", text, tuple(found))


def fitted(kb: KnowledgeBase, *texts: LinkingText, ratio: float = 5.0) -> Behavior:
    return Behavior.fit(texts, kb.matcher(), kb, ratio)


def counts(behavior: Behavior) -> dict[str, tuple[int, int]]:
    return {behavior.kb.name(name): (p, r) for name, p, r in behavior.counts.tolist()}


def test_counts(tmp_path: Path) -> None:
    kb = named(tmp_path, ["胜利", "油田", "胜利油田", "北京", "Art"])
    behavior = fitted(
        kb,
        # 胜利 is labelled though the cover has 胜利油田; 油田 is in no cover.
        labelled("胜利油田", ("胜利", "0")),
        # Once a text, and not where the text labels it elsewhere.
        labelled("北京北京Art art", ("北京", "3")),
        # NIL is no label; nor is what is no name.
        labelled("ART北京的", ("ART", None), ("的", "1")),
    )
    assert counts(behavior) == {"胜利": (1, 0), "胜利油田": (0, 1), "北京": (1, 1), "art": (0, 2)}


@pytest.mark.parametrize(("labels", "matches", "allowed"), [(0, 3, True), (0, 4, False), (1, 8, True), (1, 9, False)])
def test_names_that_are_dropped(tmp_path: Path, labels: int, matches: int, allowed: bool) -> None:
    kb = named(tmp_path, ["胜利", "北京"])
    behavior = fitted(kb, *[labelled("胜利", ("胜利", "0"))] * labels, *[labelled("胜利")] * matches)
    assert behavior.allowed.tolist() == [allowed, True], "and names that no text has are allowed"


def test_ratio(tmp_path: Path) -> None:
    kb = named(tmp_path, ["胜利"])
    assert not fitted(kb, labelled("胜利"), ratio=2).allowed[0]
    assert fitted(kb, labelled("胜利"), ratio=2.1).allowed[0]


def test_links(tmp_path: Path) -> None:
    kb = opened(tmp_path, [entity(number, "胜利") for number in range(10, 15)] + [entity(20, "北京")])
    behavior = fitted(
        kb,
        *[labelled("北京的胜利", ("胜利", f"{number}")) for number in (13, 11, 14, 11, 13)],
        labelled("《胜利》", ("《胜利》", "12"), ("胜利", "unknown")),
        # Of another name than its own.
        *[labelled("胜利", ("胜利", "20"))] * 2,
    )
    name = kb.name_number("胜利") or 0
    assert behavior.linked(name).tolist() == [3, 1, 5]
    assert behavior.most_frequent(name) == 3, "the first of three that are as frequent"
    assert behavior.linked(1).tolist() == []
    assert behavior.most_frequent(1) is None


def test_no_texts(tmp_path: Path) -> None:
    behavior = fitted(named(tmp_path, ["胜利"]))
    assert behavior.allowed.tolist() == [True]
    assert behavior.linked(0).tolist() == []
    assert behavior.most_frequent(0) is None


def test_state_goes_through_a_checkpoint(tmp_path: Path) -> None:
    kb = named(tmp_path, ["胜利", "油田"])
    behavior = fitted(kb, *[labelled("胜利油田", ("胜利", "0"))] * 4, ratio=4.0)
    file = io.BytesIO()
    torch.save(behavior.state_dict(), file)
    file.seek(0)
    loaded = Behavior(kb)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert loaded.ratio == 4.0
    assert loaded.allowed.tolist() == behavior.allowed.tolist() == [True, False]
    assert loaded.linked(0).tolist() == [0]
    assert counts(loaded) == counts(behavior)


def test_state_of_another_knowledge_base(tmp_path: Path) -> None:
    state = fitted(named(tmp_path, ["胜利"])).state_dict()
    with pytest.raises(ValueError, match=rf"fingerprint {state['knowledge']}, but this one has .*; open the one"):
        Behavior(named(tmp_path, ["油田"])).load_state_dict(state)


def test_baseline(tmp_path: Path) -> None:
    kb = opened(tmp_path, [entity(1, "胜利"), entity(2, "胜利"), entity(3, "北京"), entity(4, "的"), entity(5, "北京")])
    behavior = fitted(kb, *[labelled("的胜利", ("胜利", "2"))] * 4)
    texts = ["北京的胜利", "无"]
    covers = [[Mention(0, 2, "3"), Mention(2, 3, "4"), Mention(3, 5, "2")], []]
    assert list(frequency_baseline(texts, kb.matcher(), behavior, filtered=False)) == covers
    assert list(frequency_baseline(texts, kb.matcher(), behavior, filtered=True)) == [[covers[0][0], covers[0][2]], []]


def f1_scores(gold: list[LinkingText], found: list[list[Mention]]) -> list[float]:
    """Mention F1 and end-to-end F1 in per mille, rounded, without NIL."""
    links = {(number, *mention) for number, text in enumerate(gold) for mention in text.mentions if mention.entity}
    guesses = {(number, *mention) for number, mentions in enumerate(found) for mention in mentions}
    both = {link[:3] for link in links} & {guess[:3] for guess in guesses}
    return [round(2000 * hits / (len(links) + len(guesses))) for hits in (len(both), len(links & guesses))]


@pytest.mark.data
@pytest.mark.parametrize(
    ("task", "everything", "filtered"),
    [("ckbqa", [719, 703], [845, 826]), ("ccks2019", [674, 653], [802, 779])],
)
def test_real_texts_without_a_network(
    shared_data: Path, tmp_path: Path, task: str, everything: list[int], filtered: list[int]
) -> None:
    folder, problems = shared_data / "el" / task, Problems()
    kb = KnowledgeBase.open(folder / "kb_data.gz", str(tmp_path), progress=False)
    matcher = kb.matcher()
    behavior = Behavior.fit(read_texts(folder / "train.json.gz", problems), matcher, kb)
    gold = list(read_texts(folder / "develop.json.gz", problems))
    assert set(problems.counts) <= {"mentions that are NIL, not used"}
    texts = [text.text for text in gold]
    for is_filtered, scores in ((False, everything), (True, filtered)):
        assert f1_scores(gold, list(frequency_baseline(texts, matcher, behavior, filtered=is_filtered))) == scores
