"""Arrows run one way: cli -> strategies, scenarios -> acil."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "acil": {"avalanche", "click", "matplotlib", "rich", "acil.cli", "acil.strategies", "acil.scenarios"},
    "scenarios": {"click", "rich", "acil.cli", "acil.strategies"},
    "strategies": {"click", "matplotlib", "rich", "acil.cli", "acil.scenarios"},
    "cli": set(),
}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_folder_imports_only_what_lies_below_it(folder: str) -> None:
    files = list((CHECKOUT / folder).rglob("*.py"))
    assert files
    for file in files:
        for name in imports(file):
            wrong = [door for door in FORBIDDEN[folder] if name == door or name.startswith(door + ".")]
            assert not wrong, f"{file} imports {name}"


def test_the_engine_loads_neither_avalanche_nor_click_nor_matplotlib() -> None:
    code = (
        "import sys, acil.learner, acil.evaluate, acil.backbones; "
        "print({'avalanche', 'click', 'matplotlib', 'rich', 'sklearn', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
