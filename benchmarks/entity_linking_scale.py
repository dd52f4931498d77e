"""How entity linking grows with the knowledge base: each measurement in a process of its own.

    python -m benchmarks.entity_linking_scale build|open|predict FOLDER

measures the task that `benchmarks.entity_linking --parts scale` has written there, and prints what it measured as
JSON: a child of that command.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from benchmarks.entity_linking_synthetic import SyntheticFiles, write_task
from benchmarks.runs import bare_trainer, be_quiet, process_memory
from callbacks import PredictionLines
from datamodules import EntityLinkingDataModule
from datamodules.knowledge_base import KnowledgeBase
from datamodules.text_files import read_lines
from lit_modules import EntityLinker

Measured = dict[str, float]
SIZES = (50_000, 100_000, 200_000, 400_000)
ROUNDS = 3
# Texts that are predicted on, of those that are matched.
_PREDICTED = 0.1


def measure_size(entities: int, text: str, parent: Path, texts: int = 50_000) -> Measured:
    """All that is measured of a knowledge base of this size.

    Args:
        entities: in it.
        text: what it is made of.
        parent: folder for a temporary one.
        texts: that are matched.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        files = write_task(Path(folder), entities, text, texts=texts)
        found: Measured = {"entities": entities, "file_mb": files.knowledge.stat().st_size / 1e6}
        for what in MEASUREMENTS:
            found |= _child(what, folder)
    return found


def _child(what: str, folder: str) -> Measured:
    """What a process of its own measures."""
    command = [sys.executable, "-m", "benchmarks.entity_linking_scale", what, folder]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    measured: Measured = json.loads(done.stdout.splitlines()[-1])
    return measured


# ---- In the child ----


def build(folder: Path) -> Measured:
    """The first opening."""
    start = time.perf_counter()
    kb = KnowledgeBase.open(_files(folder).knowledge, _cache(folder), progress=False)
    seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in kb.folder.iterdir())
    peak = process_memory("VmHWM")
    return {"build_seconds": seconds, "build_peak_mb": peak / 1e6, "cache_mb": size / 1e6, "names": kb.num_names}


def open_again(folder: Path) -> Measured:
    """A later opening, with all that matching needs; then matching, on one core."""
    files = _files(folder)
    before = process_memory("VmRSS") / 1e6
    start = time.perf_counter()
    kb = KnowledgeBase.open(files.knowledge, _cache(folder))
    matcher = kb.matcher()
    matcher.cover("")
    seconds, resident = time.perf_counter() - start, process_memory("VmRSS") / 1e6
    texts = [json.loads(line)["text"] for line in read_lines(files.texts)]
    speeds = [len(texts) / _seconds(lambda: [matcher.cover(text) for text in texts]) for _ in range(ROUNDS)]
    return {
        "open_seconds": seconds,
        "imports_mb": before,
        "open_mb": resident,
        "matched_mb": process_memory("VmRSS") / 1e6,
        "matched_per_second": statistics.median(speeds),
    }


def predict(folder: Path) -> Measured:
    """Prediction by a network that was trained for an epoch, from the file of texts to that of mentions."""
    files, wanted = _files(folder), folder / "wanted.jsonl"
    lines = files.texts.read_text(encoding="utf-8").splitlines(keepends=True)
    lines = lines[: max(1, round(_PREDICTED * len(lines)))]
    wanted.write_text("".join(lines), encoding="utf-8")
    seed_everything(0, verbose=False)
    paths: dict[str, Any] = {"knowledge": str(files.knowledge), "train": str(files.train), "predict": str(wanted)}
    data = EntityLinkingDataModule(**paths, cache_dir=_cache(folder), val_fraction=0)
    learning = _seconds(lambda: data.setup("fit"))
    clock, linker = _Clock(), EntityLinker(learning_rate=3e-3, restrict_candidates=False)
    linked = folder / "linked.jsonl"
    trainer = bare_trainer([clock, PredictionLines(str(linked))], max_epochs=1, limit_val_batches=0)
    trainer.fit(linker, datamodule=data)
    trainer.predict(linker, datamodule=data, return_predictions=False)
    mentions = sum(len(json.loads(line)["mention_data"]) for line in read_lines(linked))
    return {
        "learn_seconds": learning,
        "predicted_per_second": len(lines) / clock.seconds,
        "mentions_per_text": mentions / len(lines),
        "predict_mb": process_memory("VmRSS") / 1e6,
    }


MEASUREMENTS: dict[str, Callable[[Path], Measured]] = {"build": build, "open": open_again, "predict": predict}


class _Clock(Callback):
    """Seconds of a prediction."""

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self._start


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _files(folder: Path) -> SyntheticFiles:
    return SyntheticFiles(*(folder / f"{name}.jsonl" for name in ("knowledge", "train", "texts")))


def _cache(folder: Path) -> str:
    return str(folder / "cache")


if __name__ == "__main__":
    be_quiet()
    _, what, where = sys.argv
    print(json.dumps(MEASUREMENTS[what](Path(where))))
