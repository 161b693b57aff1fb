"""The two pictures of a run: valid, of one size, and drawn without touching global state."""

import io
import random
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from acil.cli.metrics import PhaseRecord
from acil.cli.pictures import (
    ACCURACY_INCHES,
    FORGETTING_INCHES,
    PIXELS_PER_INCH,
    _limits,
    _phase_ticks,
    accuracy_picture,
    forgetting_picture,
    short_name,
)


def stream(phases: int, low: float = 0.7, base: int = 4) -> list[PhaseRecord]:
    """Phases whose classes become worse, down to about ``low``."""
    numbers, records = random.Random(0), []
    for phase in range(phases):
        labels = range(base + 2 * phase)
        level = 1 - (1 - low) * (phase + 1) / phases
        correct = {label: round(50 * level * numbers.uniform(0.9, 1)) for label in labels}
        own = tuple(labels[-2:]) if phase else tuple(labels)
        records.append(PhaseRecord(phase, own, 100, 1.0, 0.1, 0.1, 0.0, None, correct, dict.fromkeys(labels, 50)))
    return records


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n")
    height, width, _ = imread(io.BytesIO(png)).shape
    return width, height


def pixels(inches: tuple[float, float]) -> tuple[int, int]:
    return round(inches[0] * PIXELS_PER_INCH), round(inches[1] * PIXELS_PER_INCH)


@pytest.mark.parametrize("phases", [1, 2, 6, 26, 51])
def test_pictures_are_png_of_one_size(phases: int) -> None:
    records = stream(phases)
    assert size(accuracy_picture(records, "glyphs")) == pixels(ACCURACY_INCHES)
    assert size(forgetting_picture(records, "glyphs")) == pixels(FORGETTING_INCHES)


@pytest.mark.parametrize("picture", [accuracy_picture, forgetting_picture])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_nothing_right_and_everything_right_can_be_drawn(picture, level: float) -> None:
    labels = {0: 10, 1: 10}
    correct = {label: round(10 * level) for label in labels}
    records = [PhaseRecord(phase, (phase,), 5, 1.0, 1.0, 0.1, None, None, correct, labels) for phase in range(2)]
    assert picture(records, "folder:/somewhere/$photos_[of]$")


def test_phases_without_test_samples_can_be_drawn() -> None:
    records = [PhaseRecord(0, (0,), 5, 1.0, 1.0, 0.1, None, None, {}, {})]
    assert accuracy_picture(records, "glyphs")
    assert forgetting_picture(records, "glyphs")


@pytest.mark.parametrize("picture", [accuracy_picture, forgetting_picture])
def test_equal_runs_have_equal_pictures_whatever_the_user_s_style(picture) -> None:
    records = stream(3)
    before = picture(records, "glyphs")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.bbox": "tight"}):
        assert picture(records, "glyphs") == before
    assert picture(stream(3, low=0.2), "glyphs") != before


def test_drawing_leaves_global_state_alone() -> None:
    before, loaded = dict(matplotlib.rcParams), "matplotlib.pyplot" in sys.modules
    accuracy_picture(stream(2), "glyphs")
    forgetting_picture(stream(2), "glyphs")
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == loaded


@pytest.mark.parametrize("phases", [*range(1, 120), 501, 2001])
def test_ticks_are_few_and_even(phases: int) -> None:
    ticks = _phase_ticks(phases)
    assert ticks[0] == 0
    assert ticks[-1] < phases
    assert len(ticks) <= 13
    assert len(set(np.diff(ticks))) <= 1


@pytest.mark.parametrize("phases", [6, 11, 26, 51, 101])
def test_ticks_meet_the_last_phase_of_usual_runs(phases: int) -> None:
    assert _phase_ticks(phases)[-1] == phases - 1


def test_limits_hold_all_values() -> None:
    numbers = np.random.default_rng(0)
    for _ in range(300):
        values = numbers.uniform(*sorted(numbers.uniform(0, 100, 2)), 5)
        bottom, top = _limits(values.tolist())
        assert 0 <= bottom <= values.min() <= values.max() <= top <= 100
        assert top - bottom >= 20
        assert bottom % 10 == top % 10 == 0


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("glyphs", "glyphs"),
        ("folder:/a/b/photos/", "photos"),
        ("features:x.npz", "x.npz"),
        ("folder:.", "folder"),
    ],
)
def test_names_are_short(data: str, name: str) -> None:
    assert short_name(data) == name
