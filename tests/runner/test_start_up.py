"""What the command line imports before it has to: seconds, for whoever mistyped."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def imported(*arguments: str, code: int) -> set[str]:
    """The modules that a command line has imported when it ends."""
    script = (
        "import sys, run\n"
        f"try: code = run.main({list(arguments)!r})\n"
        "except SystemExit as e: code = e.code\n"
        "print('MODULES', *sys.modules)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return set(done.stdout.split("MODULES", 1)[1].split())


def test_help_and_a_misspelt_command_import_nothing_heavy() -> None:
    heavy = {"torch", "lightning", "numpy", "jsonargparse", "runner", "rich", "yaml"}
    assert not heavy & imported("--help", code=0)
    assert not heavy & imported("fti", code=2)


def test_fit_help_imports_no_libraries_that_only_some_configs_use() -> None:
    modules = imported("fit", "--help", code=0)
    # torchmetrics imports the name `transformers`; what costs seconds is its models' code.
    unwanted = {"datasets", "wandb", "transformers.modeling_utils", "torch_fidelity", "sklearn", "pandas", "mlxtend"}
    assert not unwanted & modules
    assert not {"lit_modules.relativistic_gan", "datamodules.images"} & modules
