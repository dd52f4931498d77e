"""The rules of the house: data flows one way, and so do imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOUSE = {"lit_modules", "datamodules", "callbacks", "weight_norms", "runner", "benchmarks", "tests", "run"}
MAY_IMPORT = {
    "lit_modules": {"lit_modules", "weight_norms"},
    "datamodules": {"datamodules"},
    "callbacks": {"callbacks", "weight_norms"},
    "weight_norms": {"weight_norms"},
    "runner": {"lit_modules", "datamodules", "callbacks", "weight_norms", "runner"},
    "run": set(),
}
# Each costs seconds and serves some configs only: imported where it is used.
HEAVY = {"transformers", "datasets", "wandb", "torch_fidelity", "mlxtend", "sklearn"}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py")) or [ROOT / f"{package}.py"]


def imports(tree: ast.AST) -> set[str]:
    """The top-level names that a syntax tree imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_is_below_them(package: str) -> None:
    for path in files(package):
        wrong = (imports(ast.parse(path.read_text())) & HOUSE) - MAY_IMPORT[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("package", ["lit_modules", "datamodules", "callbacks", "weight_norms", "runner"])
def test_heavy_libraries_are_imported_where_they_are_used(package: str) -> None:
    for path in files(package):
        top = ast.Module([node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.If)], [])
        top.body = [node for node in top.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not imports(top) & HEAVY, path.relative_to(ROOT)


def test_nobody_imports_the_door() -> None:
    for package in ("lit_modules", "datamodules", "callbacks", "weight_norms", "runner", "benchmarks"):
        for path in files(package):
            assert "run" not in imports(ast.parse(path.read_text())), path.relative_to(ROOT)


def test_files_are_short() -> None:
    for package in ("lit_modules", "datamodules", "callbacks", "weight_norms", "runner", "benchmarks"):
        for path in files(package):
            assert len(path.read_text().splitlines()) <= 320, path.relative_to(ROOT)
