"""A metric is followed through metrics.csv as the run's logger writes it."""

from pathlib import Path

from runner.metrics_csv import MetricsCsv
from runner.sweep_metric import LoggedMetric


def test_values_come_once_in_order_though_the_file_is_replaced(tmp_path: Path) -> None:
    metric = LoggedMetric(tmp_path, "val/loss")
    assert metric.read() == []
    folder = tmp_path / "config" / "20260101-000000-abc"
    folder.mkdir(parents=True)
    log = MetricsCsv(folder)
    log.log_metrics({"train/loss": 9.0}, 1)
    assert metric.read() == []
    log.log_metrics({"val/loss": 1.0}, 2)
    log.log_metrics({"val/loss": 2.0}, 3)
    assert metric.read() == [1, 2]
    log.log_metrics({"train/loss": 8.0}, 4)
    assert metric.read() == []
    log.log_metrics({"val/another": 3.0, "val/loss": 3.0}, 5)
    assert metric.read() == [3]
    assert metric.values == [1, 2, 3]
    assert metric.columns == ["train/loss", "val/loss", "val/another"]


def test_half_a_row_is_left_for_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "config" / "run" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"step,val/loss\r\n1,0.5\r\n2,0.2")
    metric = LoggedMetric(tmp_path, "val/loss")
    assert metric.read() == [0.5]
    with path.open("ab") as file:
        file.write(b"5\r\n")
    assert metric.read() == [0.25]
