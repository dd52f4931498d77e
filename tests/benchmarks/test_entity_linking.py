"""Article 6's benchmark at a tiny scale: its files, what is chosen, its reports."""

import json
from pathlib import Path

import pytest

from benchmarks import entity_linking as benchmark
from benchmarks import entity_linking_report as report
from benchmarks.entity_linking_baselines import KNOWN, baseline_rows
from benchmarks.entity_linking_synthetic import DESCRIPTION, TEXT, source_text, write_task
from benchmarks.entity_linking_tasks import (
    FULL,
    TRIED,
    VARIANTS,
    Setting,
    chosen_setting,
    held_out_files,
    linking_task,
    task_files,
)
from benchmarks.reporting import Row, read_rows
from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_files import read_texts
from datamodules.linking_parts import EMBEDDED
from datamodules.problems import Problems

REAL = Path(__file__).resolve().parents[3] / "shared/data/el"


def lines_of(path: str | Path) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tasks are not here")
@pytest.mark.parametrize("task", ["ckbqa", "ccks2019"])
def test_baselines_are_the_known_ones(task: str, tmp_path: Path) -> None:
    for row in baseline_rows(task, task_files(task, str(REAL)), str(tmp_path)):
        found = tuple(round(float(str(row[name])), 3) for name in ("mention_f1", "f1"))
        assert found == KNOWN[task, str(row["method"])]


def test_baselines_of_linking_alone(tmp_path: Path) -> None:
    knowledge = [("1", "a"), ("2", "a"), ("3", "b"), ("4", "a"), ("5", "c")]
    texts = [("a", "1"), ("a", "4"), ("b", "3"), ("c", "NIL")]
    entities = [
        {"alias": [], "subject_id": number, "subject": name, "type": [], "data": []} for number, name in knowledge
    ]
    asked = [
        {"text_id": str(row), "text": name, "mention_data": [{"kb_id": entity, "mention": name, "offset": "0"}]}
        for row, (name, entity) in enumerate(texts)
    ]
    for name, records in (("kb", entities), ("texts", asked)):
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    files = {"knowledge": str(tmp_path / "kb"), "train": "", "validation": str(tmp_path / "texts")}
    first, drawn = baseline_rows("wordnet", files, str(tmp_path / "cache"))
    assert [float(str(first[name])) for name in ("linking_accuracy", "ambiguous_accuracy")] == [0.666667, 0.5]
    assert float(str(drawn["linking_accuracy"])) == pytest.approx((1 + 2 / 3) / 3, abs=1e-5)
    assert float(str(drawn["ambiguous_accuracy"])) == pytest.approx(1 / 3, abs=1e-5)
    assert float(str(drawn["ambiguous_share"])) == pytest.approx(2 / 3, abs=1e-5)


def test_held_out_texts_are_some_of_the_training_texts(tmp_path: Path) -> None:
    files = task_files("ckbqa", "embedded")
    split = held_out_files("ckbqa", files, tmp_path)
    kept, held_out = lines_of(split["train"]), lines_of(split["validation"])
    assert sorted(kept + held_out) == sorted(lines_of(files["train"]))
    assert 0.1 < len(held_out) / len(kept + held_out) < 0.3
    assert split["knowledge"] == files["knowledge"]


def test_wordnets_parts_have_no_entity_in_common(tmp_path: Path) -> None:
    split = held_out_files("wordnet", task_files("wordnet", "embedded"), tmp_path)
    first = [
        {json.loads(line)["mention_data"][0]["kb_id"] for line in lines_of(split[part]) if '"kb_id"' in line}
        for part in ("train", "validation")
    ]
    assert first[0]
    assert first[1]
    assert not first[0] & first[1]


def test_the_best_epoch_of_the_best_setting_is_chosen() -> None:
    tried = {"slow": Setting(9, 0.9), "fast": Setting(9, 0.8)}
    assert chosen_setting("ckbqa", [], tried) == ("slow", tried["slow"])
    scores = {("slow", 1): "0.5", ("slow", 2): "0.6", ("fast", 1): "0.4", ("fast", 2): "0.7", ("fast", 3): "0.65"}
    rows = [
        {"method": "ckbqa", "setting": setting, "epoch": str(epoch), "f1": score, "linking_accuracy": "0"}
        for (setting, epoch), score in scores.items()
    ]
    others = [row | {"f1": "1", "method": "ccks2019"} for row in rows] + [rows[0] | {"f1": "1", "setting": "gone"}]
    assert chosen_setting("ckbqa", rows + others, tried) == ("fast", Setting(2, 0.8))


def test_rows_of_a_family_differ_in_what_they_say_alone() -> None:
    def made(row: str) -> tuple[dict[str, object], dict[str, object], float | None]:
        variant = VARIANTS["ckbqa"][row]
        task = linking_task(row, variant, next(iter(TRIED[variant.family].items())), {}, {})
        return dict(task.model(row).hparams), task.data, task.decay

    model, data, decay = made(FULL)
    assert decay == 0.98
    assert made("no averaged weights") == (model, data, None)
    assert made("no behavior statistics") == (model, data | {"behavior": False}, decay)
    assert made("no features") == (model | {"features": []}, data, decay)
    for name in ("character", "word", "object"):
        others = [feature for feature in ("character", "word", "object") if feature != name]
        assert made(f"no {name} feature") == (model | {"features": others}, data, decay)


def test_synthetic_task_is_what_it_says(tmp_path: Path) -> None:
    files = write_task(tmp_path, 300, source_text(EMBEDDED["knowledge"]), train=40, texts=60)
    problems = Problems()
    kb = KnowledgeBase.open(files.knowledge, str(tmp_path / "cache"), progress=False)
    assert len(kb) == 300
    assert all(len(kb.entity(row).description) >= DESCRIPTION for row in range(300))
    shared = [len(kb.candidates(number)) > 1 for number in range(kb.num_names)]
    assert 0.1 < sum(shared) / kb.num_names < 0.5
    for path, number in ((files.train, 40), (files.texts, 60)):
        texts = list(read_texts(path, problems, is_known=lambda entity: kb.row(entity) is not None))
        assert [len(text.text) for text in texts] == [TEXT] * number
        assert any(text.mentions for text in texts)
    assert not {kind for kind in problems.counts if "offset" in kind or "unknown" in kind}


def quality_row(seed: int, score: float, **other: str) -> Row:
    names = ("mention_f1", "linking_accuracy", "f1", "precision", "recall")
    row = dict.fromkeys(names, str(score)) | {"task": "ckbqa", "method": FULL, "setting": "s", "steps": "10"}
    return row | {"epochs": "3", "minutes": "", "seed": str(seed), "date": "2020-01-01", "machine": "m"} | other


def test_report_has_means_and_verdicts() -> None:
    rows = [quality_row(0, 0.94), quality_row(1, 0.90), quality_row(0, 0.5, method="no features", minutes="2")]
    table = report.quality_table(rows, 0.5).splitlines()[2:]
    assert table[0].startswith("| full model | s | 3 | 10 | 2 | 0.920 ± 0.028 |")
    assert table[0].endswith("| 0.840 ± 0.057 |")
    assert "| 3, cut off after 2 minutes | 10 | 1 | 0.500 |" in table[1]
    (verdicts,) = report.verdicts("ckbqa", rows)
    assert "mention F1 0.93: missed, 0.920" in verdicts
    assert "- full model, F1 0.91: reached, 0.920" in verdicts
    assert report.verdicts("ckbqa", rows[2:]) == []


def command(tmp_path: Path, *arguments: str) -> None:
    missing = ["--chinese", str(tmp_path / "none"), "--english", str(tmp_path / "none")]
    benchmark.main(["--quick", "--out", str(tmp_path), "--cache", str(tmp_path / "cache"), *missing, *arguments])


@pytest.mark.slow
def test_quality_is_kept_and_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(tmp_path, "--parts", "baselines", "vectors", "tuning", "quality")
    out = capsys.readouterr().out
    assert "left out: wordnet's rows with the network" in out.replace("\n", " ")
    text = (tmp_path / "quick/entity_linking.md").read_text()
    assert "| ckbqa: behavior filter |" in text
    rows = read_rows(tmp_path / "quick/entity_linking.csv")
    assert {row["method"] for row in rows} == VARIANTS["ckbqa"].keys() - {"pretrained encoder"}
    assert all(f"| {row['method']} |" in text for row in rows)
    assert (tmp_path / "cache/word_vectors_quick.txt").is_file()
    command(tmp_path, "--parts", "quality", "--minutes", "0.5", "--rows", FULL, "--tasks", "ckbqa")
    again = read_rows(tmp_path / "quick/entity_linking.csv")
    assert again[: len(rows)] == rows
    assert [row["minutes"] for row in again[len(rows) :]] == ["0.5"]


@pytest.mark.slow
def test_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(tmp_path, "--parts", "scale")
    rows = read_rows(tmp_path / "quick/entity_linking_scale.csv")
    assert [row["entities"] for row in rows] == ["300", "600"]
    for name in report.SCALE_COLUMNS:
        assert all(float(row[name]) > 0 for row in rows if name != "mentions_per_text"), name
    text = (tmp_path / "quick/entity_linking_scale.md").read_text()
    assert "| entities | 300 | 600 |" in text
    assert not list((tmp_path / "cache").glob("tmp*")), "the made-up tasks are gone"
