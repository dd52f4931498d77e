"""Article 8's benchmark at a tiny scale: contestants do the same work, and its files and report."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import question_answer_generation as benchmark
from benchmarks import question_answer_generation_contestants as contestants
from benchmarks import question_answer_generation_report as report
from benchmarks.question_answer_generation_contestants import CLS, FIRST, SEP, EncoderDecoder, Writing
from benchmarks.question_answer_generation_speed import check_same
from benchmarks.question_answer_generation_tasks import METHODS, SCORES, split_files
from benchmarks.reporting import Row, read_rows
from datamodules.passage_parts import EMBEDDED
from datamodules.passages import PassageDataModule
from lit_modules.parts.unilm_network import UniLMNetwork
from tests.callbacks.modules import lightning_noise

pytestmark = lightning_noise
TINY: dict[str, Any] = {"hidden": 16, "layers": 2, "heads": 2, "dropout": 0.0, "max_positions": 256}


@pytest.fixture(scope="module")
def writing() -> Writing:
    torch.manual_seed(0)
    network = UniLMNetwork.scratch(40, **TINY, tied=True).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            # Far from equally probable tokens.
            parameter.mul_(3)
    passages = torch.randint(FIRST, 40, (5, 12))
    passages[:, 0], passages[:, -1] = CLS, SEP
    return Writing(network, passages, max_answer=4, max_question=7)


# ---- Contestants ----


def test_computing_everything_anew_gives_the_same_pairs(writing: Writing) -> None:
    ours = contestants.cached(writing)
    check_same(contestants.recomputed(writing), ours)
    check_same(contestants.recomputed(writing, 2), ours)
    assert len(contestants.recomputed(writing, 2)) == 2
    with pytest.raises(RuntimeError, match="different pairs"):
        check_same(ours[1:], ours)


def test_transformers_writes_as_many_tokens(writing: Writing) -> None:
    written = EncoderDecoder(writing)()
    assert written.shape == (5, 1 + 4 + 1 + 7)
    assert set(written[:, 0].tolist()) == {CLS}
    assert set(written[:, 5].tolist()) == {SEP}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PassageDataModule:
    folder = tmp_path_factory.mktemp("cache")
    data = PassageDataModule(EMBEDDED["train"], batch_size=4, vocabulary_size=300, cache_dir=str(folder))
    data.setup("fit")
    return data


def test_sequences_have_no_padding_between_their_parts(data: PassageDataModule) -> None:
    batch = next(iter(data.train_dataloader()))
    packed = contestants.sequences(batch)
    lengths = packed[2].sum(dim=1)
    assert packed[2].shape[1] == lengths.max()
    assert int(lengths.sum()) == contestants.real_tokens(batch)
    for row, length in enumerate(lengths.tolist()):
        parts = [batch[part][row][batch[f"{part}_mask"][row]] for part in ("passage", "answer", "question")]
        assert torch.equal(packed[0][row, :length], torch.cat(parts))
        assert packed[1][row, :length].sum() == len(parts[1]) + len(parts[2])


def test_all_trainings_end_with_the_same_network(data: PassageDataModule) -> None:
    batches = list(itertools.islice(data.train_dataloader(), 3))
    ours = contestants.with_lightning(data, TINY, batches, "cpu")
    ends, network = contestants.plainly(data, TINY, batches, "cpu")
    assert len(ends) == len(ours[0]) == 3
    for own, other in zip(ours[1].parameters(), network.parameters(), strict=True):
        # Adam divides by gradients that may be tiny.
        assert torch.allclose(own, other, atol=1e-4)
    assert all(measure() > 0 for _, measure in contestants.trainings(data, TINY, batches, "cpu"))


# ---- Files and reports ----


def test_documents_are_divided(tmp_path: Path) -> None:
    source = tmp_path / "all.jsonl"
    lines = [{"title": f"t{n % 40}", "context": f"c{n}", "question": "q", "answer": "c"} for n in range(200)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = split_files([str(source), EMBEDDED["train"]], tmp_path / "parts")
    records = {part: [json.loads(line) for line in Path(path).read_text().splitlines()] for part, path in files.items()}
    assert sum(map(len, records.values())) == 200 + len(Path(EMBEDDED["train"]).read_text().splitlines())
    documents = [{r.get("title") or r["passage"] for r in part} for part in records.values()]
    assert all(documents)
    assert sum(map(len, documents)) == len(set().union(*documents))
    assert list(files) == ["train", "validation", "all", "passages_train"]
    assert {"title", "passage"} <= {name for part in ("train", "validation") for r in records[part] for name in r}
    assert all("title" in record for record in records["all"])
    assert all("passage" in record for record in records["passages_train"])
    assert len(records["train"]) > len(records["all"]) + len(records["passages_train"]) > len(records["validation"])


def speed_rows(what: str, **rates: list[float]) -> list[Row]:
    where = {"device": "cpu", "date": "2020-01-01", "machine": "m", "what": what}
    return [
        {**where, "contestant": name.replace("_", " "), "round": str(number), "per_second": str(rate)}
        for name, values in rates.items()
        for number, rate in enumerate(values, 1)
    ]


def test_ratios_are_taken_within_rounds() -> None:
    rows = speed_rows("pairs, 128 tokens", recomputed=[1.0, 2.0, 9.0], ours=[30.0, 20.0, 90.0], transformers=[31.0] * 3)
    assert report.ratio(rows, "recomputed") == 10
    assert "| recomputed | 2 | 10.00 |" in report.speed_table(rows)
    (verdicts,) = report.verdicts("pairs, 128 tokens", rows)
    assert verdicts == "- 20 times recomputed: missed, 10.00\n- 1 times transformers: missed, 0.97"
    rows = speed_rows("training", plain_loop=[100.0], ours=[97.0])
    assert report.verdicts("training", rows) == ["- 0.95 times plain loop: reached, 0.97"]


def test_report_has_means_by_kind_of_answers() -> None:
    method = next(iter(METHODS))
    rows = [
        dict.fromkeys(SCORES, str(score))
        | {"method": method, "epochs": epochs, "answers": answers, "seed": seed, "steps": "1000", "best": "2"}
        for score, seed, answers, epochs in (
            (0.2, "0", "free", "3"),
            (0.4, "1", "free", "3"),
            (0.9, "0", "spans", "3"),
            (0.5, "0", "free", "12"),
        )
    ]
    table = report.quality_table(rows).splitlines()[2:]
    assert table[0].startswith(f"| {method} | free | 3 | 1,000 | 2 ± 0 | 2 | 0.30 ± 0.14 | 0.300 ± 0.141 |")
    assert table[1].startswith(f"| {method} | spans | 3 | 1,000 | 2 | 1 | 0.90 | 0.900 |")
    assert table[2].startswith(f"| {method} | free | 12 |")


# ---- The command ----


def command(tmp_path: Path, *arguments: str) -> str:
    benchmark.main(["--quick", "--out", str(tmp_path), "--cache", str(tmp_path / "cache"), *arguments])
    return (tmp_path / "quick/question_answer_generation.md").read_text()


@pytest.mark.slow
def test_quality_is_kept_and_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--parts", "quality", "--pretrained", str(tmp_path / "none")]
    text = command(tmp_path, *words)
    assert "left out: pretrained, answer first" in capsys.readouterr().out.replace("\n", " ")
    rows = read_rows(tmp_path / "quick/question_answer_generation.csv")
    assert [(row["method"], row["answers"]) for row in rows] == [
        (f"from scratch, {order} first", answers) for order in ("answer", "question") for answers in ("free", "spans")
    ]
    assert {float(row["answer_in_passage"]) for row in rows if row["answers"] == "spans"} == {1.0}
    assert "## Examples from passages_train: from scratch, answer first, 1 epoch(s) at most" in text
    assert command(tmp_path, *words) == text
    assert read_rows(tmp_path / "quick/question_answer_generation.csv") == rows


@pytest.mark.slow
def test_speed(tmp_path: Path) -> None:
    text = command(tmp_path, "--parts", "speed")
    assert "## Speed: pairs, 32 tokens" in text
    rows = read_rows(tmp_path / "quick/question_answer_generation_speed.csv")
    names = ["recomputed", "ours", "transformers", "plain loop", "ours"]
    assert [row["contestant"] for row in rows] == names
    assert all(float(row["per_second"]) > 0 for row in rows)
