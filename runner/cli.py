"""fit, validate, test and predict: LightningCLI in subclass mode, and what a run of this project adds to it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import set_parsing_settings
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from callbacks.keras_progress_bar import KerasProgressBar
from callbacks.non_finite_guard import NonFiniteError, NonFiniteGuard
from callbacks.protocols import MissingMethodsError, PreparesModule
from callbacks.run_summary import RunSummary
from runner import run_folder
from runner.checkpoints import AtomicCheckpointIO, RunCheckpoint
from runner.compatibility import check_checkpoint
from runner.config_files import as_typed, find_config, named_configs, refuse_urls
from runner.errors import Context, UserError, explain, is_union_report
from runner.exact_resume import ExactResume
from runner.interruption import GracefulStop, RunInterrupted
from runner.loggers import finish_wandb, run_loggers
from runner.plugins import PluginError, import_named
from runner.predictions import PredictionFiles
from runner.warnings import quieten

# LightningCLI lets configs come from URLs. A config names classes to run: it is code.
set_parsing_settings(config_read_mode_urls_enabled=False, config_read_mode_fsspec_enabled=False)


class ParserError(UserError):
    """What the parser says, with the options that it knows."""

    def __init__(self, message: str, options: list[str]) -> None:
        super().__init__(message)
        self.options = options


class Parser(LightningArgumentParser):
    """An argument parser whose errors are exceptions, not a page of usage and an exit."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises the parser's own words; `main` shortens them."""
        parsers = [self, *(p for a in self._actions for p in getattr(a, "_name_parser_map", {}).values())]
        raise ParserError(message, [option for parser in parsers for option in parser._option_string_actions]) from ex


class RunCLI(LightningCLI):
    """One command: parses, makes the run folder, builds the objects, runs.

    Args:
        arguments: the command line, `["fit", "--config", ...]`.
        resources: gives back the run's folder at the end.
    """

    def __init__(self, arguments: Sequence[str], resources: ExitStack) -> None:
        self.command = arguments[0]
        self.arguments = list(arguments)
        self.resources = resources
        self.checkpoint: Path | None = None
        self.folder = Path()
        super().__init__(
            model_class=LightningModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={"default_root_dir": "runs"},
            parser_class=Parser,
            # Of four commands only one is run: the other three parsers need not be built.
            parser_kwargs={"prog": "run.py", self.command: {}},
            args=self.arguments,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The command that was given."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses; LightningCLI would warn that sys.argv holds arguments too."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration alone: Lightning would let the checkpoint's hyper-parameters overrule it."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the settings of the run's checkpoints."""
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Leaves out what predict would gather in memory: it is written to files."""
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        return kwargs | {"return_predictions": False} if subcommand == "predict" else kwargs

    def before_instantiate_classes(self) -> None:
        """Finds the checkpoint before anything is built."""
        settings = self.config[self.command]
        if settings.ckpt_path:
            self.checkpoint = run_folder.resolve_checkpoint(settings.ckpt_path, *self._parent_and_name())
            settings.ckpt_path = str(self.checkpoint)

    def _add_configure_optimizers_method_to_model(self, subcommand: str | None) -> None:
        """Lets --optimizer replace a module's own, unless the module has arguments for it."""
        name, arguments = type(self.model).__name__, self._get(self.config, "model").get("init_args", {})
        if self._get(self.config, "optimizer") and ("optimizer" in arguments or not self.model.automatic_optimization):
            raise UserError(f"{name} makes its own optimizer: set --model.optimizer, not --optimizer.")
        if not self.model.automatic_optimization:
            self._refuse_what_manual_modules_do_themselves(name)
        super()._add_configure_optimizers_method_to_model(subcommand)

    def _refuse_what_manual_modules_do_themselves(self, name: str) -> None:
        trainer = self._get(self.config, "trainer")
        for setting, default in (("gradient_clip_val", None), ("accumulate_grad_batches", 1)):
            if trainer.get(setting, default) != default:
                raise UserError(f"{name} does this itself: set --model.{setting}, not --trainer.{setting}.")

    def after_instantiate_classes(self) -> None:
        """Compares the checkpoint with the module that is going to load it."""
        if self.checkpoint:
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, PreparesModule):
                    callback.prepare_module(self.model)
            check_checkpoint(self.checkpoint, self.model)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the run's folder and builds the Trainer with the run's loggers and callbacks."""
        self.folder = self._claim_folder(*self._parent_and_name())
        settings = self._get(self.config_init, "trainer")
        self._dump_config()
        # Where to go on from is no setting: a run that is made from this config should begin at its beginning.
        self.config_dump.pop("ckpt_path", None)
        kwargs["default_root_dir"] = self.folder
        kwargs["logger"] = run_loggers(self.folder, self.config_dump, settings.get("logger"))
        plugins = settings.get("plugins") or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        exact_resume = ExactResume()
        self.trainer_defaults["callbacks"] = [
            # Before the summary, so that the bar's last line stands above it when the run is stopped.
            *_progress_bar(settings),
            exact_resume,
            NonFiniteGuard(),
            GracefulStop(exact_resume),
            RunSummary(self._resume_command()),
            PredictionFiles(),
        ]
        trainer = super().instantiate_trainer(**kwargs)
        self._save_config()
        return trainer

    def _parent_and_name(self) -> tuple[Path, str]:
        """Where this config's runs are, and its name: the file's, or the module's where there is no file."""
        settings = self.config[self.command]
        parent = Path(settings.trainer.default_root_dir)
        if not settings.get("config"):
            return parent, settings.model.class_path.split(".")[-1]
        path = Path(str(settings.config[-1])).resolve()
        # A run folder's own config.yaml: the folder above says which config it was.
        return parent, path.parent.parent.name if path.name == "config.yaml" else path.stem

    def _claim_folder(self, parent: Path, name: str) -> Path:
        """The run's folder, locked; other ranks learn of it from the first one's loggers."""
        inherited = os.environ.get(run_folder.INHERITED)
        if _is_child() and inherited:
            return Path(inherited)
        # Started by hand on several machines, Lightning's first process of each is rank 0 until the Trainer is built.
        if getattr(rank_zero_only, "rank", 0) != 0 or os.environ.get("NODE_RANK", "0") != "0":
            return parent
        continued = run_folder.folder_of(self.checkpoint) if self.checkpoint and self.command == "fit" else None
        folder = continued or run_folder.create(parent, name)
        self.resources.callback(run_folder.lock(folder).release)
        os.environ[run_folder.INHERITED] = str(folder)
        self.resources.callback(os.environ.pop, run_folder.INHERITED, None)
        return folder

    @rank_zero_only
    def _save_config(self) -> None:
        """Writes the complete config.yaml; a resumed run with other settings keeps the earlier file beside it."""
        path = self.folder / "config.yaml"
        text = yaml.safe_dump(self.config_dump, sort_keys=False, allow_unicode=True)
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            earlier = len(list(self.folder.glob("config-*.yaml"))) + 1
            path.rename(self.folder / f"config-{earlier}.yaml")
        run_folder.write_atomically(path, text)

    def _resume_command(self) -> str:
        kept = _without_option(self.arguments, "--ckpt_path")
        return as_typed(kept) + " --ckpt_path {checkpoint}"


def _progress_bar(settings: Any) -> list[ProgressBar]:
    """The project's bar, unless the trainer's settings name another or switch it off."""
    callbacks = settings.get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    chosen = settings.get("enable_progress_bar") is False or any(isinstance(one, ProgressBar) for one in callbacks)
    return [] if chosen or settings.get("barebones") else [KerasProgressBar()]


def _is_child() -> bool:
    """Whether Lightning started this process as a further rank of a run on one machine."""
    return os.environ.get("LOCAL_RANK", "0") != "0" and "TORCHELASTIC_RUN_ID" not in os.environ


def _without_option(arguments: Sequence[str], option: str) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument != option and not argument.startswith(f"{option}="):
            kept.append(argument)
        skip = argument == option and not skip
    return kept


def main(arguments: list[str]) -> int:
    """Runs one of the four commands.

    Args:
        arguments: the command line, command first; `--debug` anywhere shows tracebacks.

    Returns:
        The exit code: 0 done, 1 failed, 2 the user's mistake, 130 or 143 stopped by a signal.
    """
    debug = "--debug" in arguments
    arguments = [find_config(argument) for argument in arguments if argument != "--debug"]
    quieten()
    code = 1
    try:
        code = _exit_code(arguments, debug)
    finally:
        finish_wandb(code)
    return code


def _exit_code(arguments: list[str], debug: bool) -> int:
    try:
        _run(arguments)
        return 0
    except RunInterrupted as stop:
        # Lightning kills the whole run when a child ends with another code than 0; the parent's is what counts.
        return 0 if _is_child() else stop.exit_code
    except (NonFiniteError, FloatingPointError) as error:
        return _report(error, 0 if _is_child() else 1, debug)
    except (UserError, PluginError, MisconfigurationException, MissingMethodsError) as error:
        return _report(error, 2, debug)
    except (ValueError, OSError) as error:
        # Most often a wrong argument or file, which the message names.
        return _report(error, 2, debug, "(--debug shows where)")


def _run(arguments: list[str]) -> None:
    configs = named_configs(arguments)
    refuse_urls(arguments)
    failures = import_named([*arguments, *(path.read_text(encoding="utf-8") for path in configs)])
    try:
        with ExitStack() as resources:
            RunCLI(arguments, resources)
    except ParserError as error:
        if broken := next((failure for name, failure in failures.items() if name in str(error)), None):
            raise broken from error
        raise UserError(explain(str(error), Context(error.options, arguments, configs))) from error
    except ValueError as error:
        if not is_union_report(str(error)):
            raise
        # jsonargparse's report on a constructor that refused its arguments.
        raise UserError(explain(str(error), Context([], arguments, configs))) from error


def _report(error: BaseException, code: int, debug: bool, hint: str = "") -> int:
    if debug:
        traceback.print_exception(error)
    print(f"error: {error} {'' if debug else hint}".rstrip(), file=sys.stderr)
    return code
