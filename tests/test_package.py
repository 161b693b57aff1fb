"""The wheel, the import costs and the doors of the package."""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def python(*arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=environment.get("PWD", str(CHECKOUT)),
    ).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("acil", "scenarios", "strategies", "cli"):
        subprocess.run(["cp", "-r", str(CHECKOUT / name), str(source)], check=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((CHECKOUT / name).read_bytes())
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    python("-m", "pip", "wheel", *options, str(source))
    return next(folder.glob("acil-*.whl"))


def test_the_wheel_holds_one_package_and_all_of_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"acil"}
    expected = {
        ("acil/" if top != "acil" else "") + str(path.relative_to(CHECKOUT))
        for top in ("acil", "scenarios", "strategies", "cli")
        for path in (CHECKOUT / top).rglob("*.py")
    }
    assert expected <= set(names)
    assert "acil/py.typed" in names


def test_the_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    python("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel))
    code = (
        "import acil, acil.cli, acil.scenarios, acil.strategies, acil.backbones; "
        "print(acil.__file__, acil.cli.__file__, acil.ExactHead(2).digest())"
    )
    shown = python("-W", "ignore", "-c", code, PYTHONPATH=str(target), PWD=str(tmp_path))
    assert shown.count(str(target)) == 2


def test_the_module_and_the_command_are_one_door(tmp_path: Path) -> None:
    from_checkout = python("-m", "acil.cli", "--help")
    elsewhere = python("-m", "acil.cli", "--help", PWD=str(tmp_path))
    command = subprocess.run(
        [str(Path(sys.executable).with_name("acil")), "--help"], check=True, capture_output=True, text=True
    ).stdout
    assert from_checkout == elsewhere == command
    assert "Usage: acil" in command


def test_help_answers_in_under_half_a_second() -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        python("-m", "acil.cli", "--help")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_help_and_bare_import_load_nothing_heavy() -> None:
    heavy = "{'torch', 'avalanche', 'matplotlib', 'numpy', 'rich'}"
    code = f"import sys, acil, acil.cli; print({heavy} & set(sys.modules))"
    assert python("-c", code).strip() == "set()"


def test_the_engine_costs_little_more_than_torch() -> None:
    code = "import time; s = time.perf_counter(); import {}; print(time.perf_counter() - s)"
    torch_alone = min(float(python("-c", code.format("torch"))) for _ in range(3))
    engine = min(float(python("-c", code.format("acil.learner"))) for _ in range(3))
    assert engine < 1.5 * torch_alone + 0.3
