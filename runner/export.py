"""`run.py export`: a checkpoint as a folder of weights, JSON and a model card, without anything of the training."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from lightning.pytorch import LightningModule

from runner.errors import UserError, nearest
from runner.export_artifact import artifact_name, log_artifact
from runner.export_card import last_metrics, model_card
from runner.export_checkpoint import Trained, find_checkpoint, restore
from runner.export_onnx import check_onnx, write_onnx
from runner.exported import CONFIG, DATA, WEIGHTS, write
from runner.plugins import PluginError
from runner.warnings import quieten

TRAINING = "training.yaml"
_FILES = {
    WEIGHTS: "the weights, by their names in the module's state dict",
    CONFIG: "the module's class, its arguments, and what it learned from its data",
    DATA: "the tensors of the latter",
    TRAINING: "the complete configuration of the run",
}


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    into: LightningModule | None = None,
    onnx: bool = False,
    artifact: str | None = None,
) -> Path:
    """Writes a checkpoint's module to a folder, from which `runner.exported.load` has it back.

    Args:
        checkpoint: a checkpoint, or the folder of a run, of which the best one is taken, or the last.
        out: a folder that is empty or not there. It is whole or not there at any time.
        into: a module of the checkpoint's class and sizes, which is changed in place: for a class that nobody
            registers, networks of your own, and checkpoints that don't say of which class they are. By default the
            module is built by what the checkpoint says.
        onnx: also write the networks that make sense outside of Python as ONNX.
        artifact: log the folder to W&B by this name. One of a run that W&B has online is logged in any case.

    Returns:
        The folder.

    Raises:
        UserError: there is no such checkpoint, it doesn't fit, the folder isn't empty, or a package is missing.
        ValueError: the artifact's name is none that W&B takes.
    """
    return _export(Path(checkpoint), Path(out), into, onnx, artifact)[0]


def _export(
    checkpoint: Path, out: Path, into: LightningModule | None, onnx: bool, artifact: str | None
) -> tuple[Path, list[tuple[str, str]]]:
    """The folder, and what to tell of it."""
    if onnx:
        check_onnx()
    trained = restore(find_checkpoint(checkpoint), into)
    name = artifact_name(artifact, trained.run)
    with _becoming(out) as folder:
        written = _write(trained, folder, onnx)
    told = [("exported", str(out)), ("from", str(trained.path)), *written]
    if name:
        metadata = {"class": trained.description.class_path, **last_metrics(trained)}
        told.append(("W&B", log_artifact(out, name, trained.run, metadata)))
    return out, [*told, ("load", f"from runner.exported import load; load({str(out)!r})")]


def _write(trained: Trained, folder: Path, onnx: bool) -> list[tuple[str, str]]:
    write(folder, trained.module, trained.description)
    if trained.run is not None:
        shutil.copyfile(trained.run / "config.yaml", folder / TRAINING)
    networks = write_onnx(trained.module, folder) if onnx else []
    files = {name: what for name, what in _FILES.items() if (folder / name).exists()}
    files |= {name: f"the {name.removesuffix('.onnx')} as ONNX, for batches of any size" for name in networks}
    (folder / "README.md").write_text(model_card(trained, files), encoding="utf-8")
    averaged = ", ".join(path or "all weights" for path in trained.averaged)
    told = [("averaged", averaged), ("ONNX", ", ".join(networks))]
    return [(label, text) for label, text in told if text]


@contextmanager
def _becoming(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` at the end, and is gone if anything goes wrong.

    Raises:
        UserError: there is something at `out` already.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"--out {out} is {'a file' if out.is_file() else 'not empty'}: name a new folder.")
    folder = out.with_name(f".{out.name}.{os.getpid()}")
    folder.mkdir(parents=True)
    try:
        yield folder
        # Takes the place of an empty folder.
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- The command ----


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"export: {message}.")


def _parser() -> _Parser:
    parser = _Parser(
        prog="run.py export",
        description="Write a checkpoint's module to a folder: weights, JSON and a model card.",
        allow_abbrev=False,
    )
    parser.add_argument("--ckpt", type=Path, required=True, help="a checkpoint, or the folder of a run: its best one")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--onnx", action="store_true", help="also write generators, encoders, ... as ONNX")
    parser.add_argument("--artifact", metavar="NAME", help="log the folder to Weights & Biases by this name")
    parser.add_argument("--debug", action="store_true", help="show the traceback behind an error message")
    return parser


def main(arguments: list[str]) -> int:
    """Runs the command.

    Args:
        arguments: the command line, command first.

    Returns:
        The exit code: 0 done, 2 the user's mistake.
    """
    debug = "--debug" in arguments
    quieten()
    try:
        _run(arguments[1:])
        return 0
    except (UserError, PluginError, ValueError, OSError) as error:
        if debug:
            traceback.print_exception(error)
        # The others come from deeper down.
        plain = debug or isinstance(error, UserError | PluginError)
        print(f"error: {error}{'' if plain else ' (--debug shows where)'}", file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> None:
    parser = _parser()
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        option = unknown[0].split("=")[0]
        raise UserError(f"export has no option {option}.{nearest(option, parser._option_string_actions)}")
    _, told = _export(known.ckpt, known.out, None, known.onnx, known.artifact)
    print(*(f"{label:<10}{text}" for label, text in told), sep="\n")
