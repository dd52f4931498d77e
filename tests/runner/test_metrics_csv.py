"""metrics.csv: a row a call, columns as they come, rows counted and taken back."""

import csv
from pathlib import Path

from runner.metrics_csv import MetricsCsv


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_row_is_on_disk_at_once(tmp_path: Path) -> None:
    logger = MetricsCsv(tmp_path)
    logger.log_metrics({"train/loss": 0.5}, step=1)
    assert read(tmp_path) == [{"step": "1", "train/loss": "0.5"}]
    logger.log_metrics({"train/loss": 0.25}, step=2)
    assert [row["train/loss"] for row in read(tmp_path)] == ["0.5", "0.25"]


def test_a_new_name_adds_a_column_and_keeps_the_rows(tmp_path: Path) -> None:
    logger = MetricsCsv(tmp_path)
    logger.log_metrics({"train/loss": 0.5}, step=1)
    logger.log_metrics({"val/fid": 3.0, 'a,"b': 1.0}, step=1)
    assert read(tmp_path) == [
        {"step": "1", "train/loss": "0.5", "val/fid": "", 'a,"b': ""},
        {"step": "1", "train/loss": "", "val/fid": "3.0", 'a,"b': "1.0"},
    ]


def test_a_second_logger_of_the_folder_goes_on(tmp_path: Path) -> None:
    MetricsCsv(tmp_path).log_metrics({"train/loss": 0.5}, step=1)
    again = MetricsCsv(tmp_path)
    assert again.num_rows == 1
    again.log_metrics({"train/loss": 0.25}, step=2)
    assert len(read(tmp_path)) == 2


def test_rewind(tmp_path: Path) -> None:
    logger = MetricsCsv(tmp_path)
    for step in range(5):
        logger.log_metrics({"train/loss": float(step)}, step=step)
    logger.rewind(2)
    assert [row["step"] for row in read(tmp_path)] == ["0", "1"]
    logger.log_metrics({"train/loss": 9.0}, step=2)
    assert [row["train/loss"] for row in read(tmp_path)] == ["0.0", "1.0", "9.0"]
    assert logger.num_rows == 3


def test_values_keep_all_their_digits(tmp_path: Path) -> None:
    MetricsCsv(tmp_path).log_metrics({"x": 1 / 3}, step=0)
    assert float(read(tmp_path)[0]["x"]) == 1 / 3
