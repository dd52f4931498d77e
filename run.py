"""The door of litspaces: `python run.py COMMAND ...` (installed: `litspaces COMMAND ...`).

It parses the command, hands over to `runner`, and nothing else. Nothing heavy is imported before the command
is known to exist: `import lightning.pytorch` alone takes seconds, a misspelt command should not.
"""

import difflib
import sys
from importlib import import_module

COMMANDS = {
    "fit": ("runner.cli", "train a module"),
    "validate": ("runner.cli", "evaluate a checkpoint on the validation data"),
    "test": ("runner.cli", "evaluate a checkpoint on the test data"),
    "predict": ("runner.cli", "write a checkpoint's predictions"),
    "sweep": ("runner.sweep", "search hyper-parameters, several trials at once"),
    "export": ("runner.export", "write a checkpoint as a folder of weights, JSON and a model card"),
    "list": (
        "runner.listing",
        "show modules, datamodules, callbacks, optimizers and configs that have short names",
    ),
}

USAGE = "\n".join(
    [
        "usage: run.py COMMAND [options] [--debug]",
        "",
        "commands:",
        *(f"  {name:<10}{what}" for name, (_, what) in COMMANDS.items()),
        "",
        "first run:    python run.py fit --config configs/relativistic_gan.yaml",
        "all options:  python run.py COMMAND --help",
        "one class:    python run.py fit --model.help RelativisticGAN",
        "--debug shows the traceback behind an error message.",
    ]
)


def main(argv: list[str] | None = None) -> int:
    """Runs one command line and returns its exit code (0 done, 1 failed, 2 the user's mistake, 143 SIGTERM)."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if arguments else 2
    command = arguments[0]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" Commands: {', '.join(COMMANDS)}."
        print(f"error: there is no command {command!r}.{hint}", file=sys.stderr)
        return 2
    return import_module(COMMANDS[command][0]).main(arguments)


if __name__ == "__main__":
    sys.exit(main())
