"""A text that is always at hand: the documentation inside of the scientific Python packages this project rests on."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

# Package to import and distribution that brings it; all come with the project's dependencies.
PACKAGES = {"numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn", "torchmetrics": "torchmetrics"}
# Examples of code, rules under headings and directives.
_NO_PROSE = re.compile(r">>>|\.\.\.|[-=~^*+|]{3,}|\.\. ")


def docstring_paragraphs() -> Iterator[str]:
    """Yields the paragraphs of all docstrings of the packages, in the order of their files; code is left out.

    About 1.3 million words of technical English. The files are parsed, not imported.
    """
    for name in PACKAGES:
        folder = package_folder(name)
        for path in sorted(folder.rglob("*.py")):
            if "tests" not in path.relative_to(folder).parts:
                yield from _paragraphs(ast.parse(path.read_bytes()))


def docstrings_key() -> list[str]:
    """Returns the versions of the packages."""
    return [f"{name} {importlib.metadata.version(distribution)}" for name, distribution in PACKAGES.items()]


def package_folder(name: str) -> Path:
    """Returns where a package's files are, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"source 'docstrings' needs the package {name}: pip install {PACKAGES[name]}")
    return Path(spec.origin).parent


def _paragraphs(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    if docstring := ast.get_docstring(node):
        yield from _prose(docstring)
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _paragraphs(child)


def _prose(docstring: str) -> Iterator[str]:
    """Yields the paragraphs that are no examples, each as one line."""
    for paragraph in re.split(r"\n\s*\n", docstring):
        lines = [line.strip() for line in paragraph.split("\n")]
        if not any(line.startswith(">>>") for line in lines):
            yield " ".join(line for line in lines if not _NO_PROSE.match(line))
