"""The pages in docs/ are true: their Python examples run, their links lead somewhere, their tables are measured.

Their commands are tested with the README's, in test_readme.py.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from runner.plugins import Plugin
from tests.test_every_module import MODULES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TABLE = re.compile(r"^\|.*(?:\n\|.*)+", re.MULTILINE)
EXAMPLES = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.slow
@pytest.mark.parametrize("block", EXAMPLES)
def test_python_example_runs(block: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("plugin", MODULES, ids=lambda plugin: plugin.name)
def test_ten_lines_use_the_module_without_run_py(plugin: Plugin) -> None:
    """With a Trainer and a logger of one's own, beside longer examples; all of them are run above."""
    text = "".join(page.read_text() for page in PAGES)
    sections = re.findall(r"^## In code of your own\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    blocks = [block for section in sections for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL)]
    own = [block for block in blocks if f"from lit_modules import {plugin.name}\n" in block and "logger=pl." in block]
    assert own
    assert len([line for line in own[0].splitlines() if line.strip()]) <= 10


@pytest.mark.parametrize("plugin", MODULES, ids=lambda plugin: plugin.name)
def test_each_module_has_a_page(plugin: Plugin) -> None:
    """Which a row of the README's first table names."""
    rows = [row for row in (ROOT / "README.md").read_text().splitlines() if f"`{plugin.name}`" in row]
    (page,) = re.findall(r"\]\((docs/\w+\.md)\) \|$", "\n".join(rows), re.MULTILINE)
    assert plugin.name in (ROOT / page).read_text()


def test_the_checks_that_contributors_are_told_of_exist() -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert named
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / file).read_text(), f"{file} has no {test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("results", sorted((DOCS / "results").glob("*.md")), ids=lambda page: page.stem)
def test_tables_are_the_measured_ones(results: Path) -> None:
    pages = [page for page in DOCS.glob("*.md") if f"(results/{results.name})" in page.read_text()]
    assert pages, f"no page links to {results.name}"
    text = "".join(page.read_text() for page in pages)
    measured = TABLE.findall(results.read_text())
    assert measured
    for table in measured:
        assert table in text, f"no page has {results.name}'s table that starts with {table.splitlines()[0]}"
