"""``acil ood`` on a tiny run: figures against the run's own and against the scores by hand, files, refusals."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from matplotlib.image import imread
from PIL import Image
from rich.progress import Progress

from acil import AnalyticLearner
from acil.cli import main
from acil.cli.detection import FOREIGN_SEED, Detection, KnownImages, detect
from acil.cli.detection_pictures import draw_histograms, histograms_picture, roc_picture
from acil.ood import evaluate_ood
from acil.scenarios import foreign_images, load_data

COLOURS = {"blue": (20, 30, 200), "green": (20, 180, 40), "red": (200, 30, 20)}
FOREIGN, SIDE = 12, 16
SCORES = ["MSP", "max logit", "max cosine", "energy", "ODIN", "leverage"]

pytestmark = pytest.mark.usefixtures("one_thread")


def acil(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def detected(run: Path, *arguments: object) -> dict:
    result = acil("ood", run, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refusal(*arguments: object) -> str:
    result = acil(*arguments)
    assert result.exit_code == 2, result.output
    assert not isinstance(result.exception, Exception)
    assert result.stderr.count("\n") == 1
    return result.stderr


def save_images(folder: Path, colour: tuple[int, ...], count: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(sum(colour))
    for number in range(count):
        pixels = np.clip(rng.normal(colour, 25, size=(SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("ACIL_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classes of the run."""
    root = tmp_path_factory.mktemp("photos")
    for name, colour in COLOURS.items():
        save_images(root / "train" / name, colour, 12)
        save_images(root / "test" / name, colour, 5)
    return root


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of no class of the run, beside some of one."""
    root = tmp_path_factory.mktemp("others")
    save_images(root / "grey", (128, 128, 128), FOREIGN)
    save_images(root / "red", COLOURS["red"], 7)
    return root


def trained(photos: Path, folder: Path, *options: object) -> Path:
    data = ("--data", f"folder:{photos}", "--image-size", SIDE, "--phases", 1, "--base-classes", 2)
    result = acil("run", *data, "--epochs", 2, "--buffer-size", 64, "--device", "cpu", "--output", folder, *options)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(photos, tmp_path_factory.mktemp("runs") / "photos")


@pytest.fixture(scope="module")
def found(run: Path, others: Path) -> dict:
    return detected(run, "--against", f"folder:{others}", "--device", "cpu")


def test_known_images_are_the_test_images_of_the_run(run: Path, found: dict) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert found["known"]["images"] == 5 * len(COLOURS)
    assert found["known"]["classes"] == len(COLOURS)
    assert found["known"]["accuracy"] == summary["last_accuracy"]
    assert 0 <= found["known"]["calibration_error"] <= 1


def test_folders_of_learned_classes_are_left_out(found: dict, others: Path) -> None:
    assert {(row["source"], row["images"]) for row in found["detections"]} == {(f"folder:{others}", FOREIGN)}
    assert [row["score"] for row in found["detections"]] == SCORES


def test_figures_are_those_of_the_learner_in_python(run: Path, photos: Path, others: Path, found: dict) -> None:
    learner = AnalyticLearner.load(run / "model.safetensors")
    known = load_data(f"folder:{photos}", image_size=SIDE).test.inputs
    foreign = foreign_images(f"folder:{others}", 15, (3, SIDE, SIDE), seed=FOREIGN_SEED, without=["red"])
    scores = {"leverage": learner.leverage}
    with torch.no_grad():
        scores["max logit"] = lambda images: -learner(images).amax(dim=1)
        scores["max cosine"] = lambda images: -(learner(images) / learner(images).norm(dim=1, keepdim=True)).amax(dim=1)
        for row in found["detections"]:
            if row["score"] in scores:
                expected = evaluate_ood(*(scores[row["score"]](images) for images in (known, foreign)))
                assert row["auroc"] == pytest.approx(expected.auroc)
                assert row["fpr95"] == pytest.approx(expected.fpr95)
                assert row["aupr_out"] == pytest.approx(expected.aupr_out)


def test_a_run_leaves_tables_and_pictures(run: Path, found: dict) -> None:
    folder = run / "ood"
    assert {file.name for file in folder.iterdir()} == {"histograms.png", "roc.png", "ood.csv"}
    for picture in ("histograms.png", "roc.png"):
        assert imread(folder / picture).std() > 0.01
    with (folder / "ood.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, expected in zip(rows, found["detections"], strict=True):
        assert {name: row[name] for name in expected} == {name: str(value) for name, value in expected.items()}
        assert float(row["known_accuracy"]) == found["known"]["accuracy"]


def test_the_table_shows_what_json_says(run: Path, others: Path, found: dict) -> None:
    result = acil("ood", run, "--against", f"folder:{others}", "--against", f"folder:{others}", "--device", "cpu")
    assert result.exit_code == 0, result.output
    for row in found["detections"]:
        lines = [line for line in result.stdout.splitlines() if f" {row['score']} " in line]
        assert len(lines) == 1  # a source that is named twice counts once
        for name in ("fpr95", "auroc", "aupr_in", "aupr_out"):
            assert f"{100 * row[name]:.2f} %" in lines[0]
    assert f"{100 * found['known']['accuracy']:.2f} %" in result.stdout


def test_a_head_without_leverage_has_the_other_scores(photos: Path, others: Path, tmp_path: Path) -> None:
    recursive = trained(photos, tmp_path / "recursive", "--head", "recursive")
    scores = [row["score"] for row in detected(recursive, "--against", f"folder:{others}")["detections"]]
    assert scores == SCORES[:-1]


@pytest.mark.parametrize("method", ["fourier", "gkeal", "ds-al"])
def test_odin_has_gradients_through_every_method(photos: Path, others: Path, tmp_path: Path, method: str) -> None:
    model = trained(photos, tmp_path / method, "--method", method) / "model.safetensors"
    learner = AnalyticLearner.load(model)
    images = foreign_images(f"folder:{others}", 3, (3, SIDE, SIDE)).float().div(255).requires_grad_()
    (slope,) = torch.autograd.grad(learner(images).amax(dim=1).sum(), images)
    assert bool((slope.abs().amax(dim=(1, 2, 3)) > 0).all())


def test_other_images_are_needed(run: Path, photos: Path, tmp_path: Path) -> None:
    assert "name a source of other images" in refusal("ood", run, "--against", f"folder:{photos}")
    assert "no data set is called" in refusal("ood", run, "--against", "gausian")
    assert "is not a folder" in refusal("ood", run, "--against", f"folder:{tmp_path / 'nowhere'}")
    assert "--against" in refusal("ood", run)


def test_folders_without_a_run_or_a_model_are_refused(run: Path, tmp_path: Path) -> None:
    assert "holds no run" in refusal("ood", tmp_path, "--against", "blobs")
    assert "holds no run" in refusal("ood", run / "model.safetensors", "--against", "blobs")
    unlearned = tmp_path / "unlearned"
    shutil.copytree(run, unlearned)
    (unlearned / "model.safetensors").unlink()
    assert "has learned nothing yet" in refusal("ood", unlearned, "--against", "blobs")


def test_a_damaged_model_is_refused_by_name(run: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[-100] ^= 1
    (damaged / "model.safetensors").write_bytes(content)
    assert str(damaged / "model.safetensors") in refusal("ood", damaged, "--against", "blobs")


def test_feature_rows_have_no_foreign_images(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", features=rows, labels=np.arange(40) % 4)
    folder = tmp_path / "run"
    options = ("--base-classes", 0, "--phases", 2, "--buffer-size", 32, "--output", folder)
    assert acil("run", "--data", f"features:{tmp_path / 'rows.npz'}", *options).exit_code == 0
    assert "has learned feature rows" in refusal("ood", folder, "--against", "gaussian")


@pytest.mark.filterwarnings("always:the run was trained beside")
def test_a_run_that_was_trained_beside_a_source_says_so(photos: Path, others: Path, tmp_path: Path) -> None:
    foreign = f"folder:{others}"
    beside = trained(photos, tmp_path / "beside", "--open-set", "odnl:1", "--foreign", foreign)
    result = acil("ood", beside, "--against", foreign)
    assert result.exit_code == 0, result.output
    assert "trained beside images of" in result.stderr


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = ("--classes", 8, "--train-per-class", 15, "--test-per-class", 6, "--epochs", 1, "--buffer-size", 64)
    folder = tmp_path_factory.mktemp("runs") / "glyphs"
    result = acil("run", "--phases", 2, *sizes, "--device", "cpu", "--output", folder)
    assert result.exit_code == 0, result.output
    return folder


def test_every_score_meets_every_source_with_as_many_images(glyphs: Path, others: Path) -> None:
    sources = ("gaussian", "rademacher", "blobs", "symbols", f"folder:{others}")
    found = detected(glyphs, *(word for source in sources for word in ("--against", source)))
    pairs = [(row["source"], row["score"]) for row in found["detections"]]
    assert pairs == [(source, score) for source in sources for score in SCORES]
    assert found["known"]["images"] == 48
    assert {row["images"] for row in found["detections"][: -len(SCORES)]} == {48}
    assert {row["images"] for row in found["detections"][-len(SCORES) :]} == {FOREIGN + 7}  # red is no glyph


def test_foreign_noise_is_not_the_noise_of_training(glyphs: Path) -> None:
    learner = AnalyticLearner.load(glyphs / "model.safetensors")
    seed = json.loads((glyphs / "config.json").read_text())["seed"]
    of_training, of_detection = (foreign_images("gaussian", 48, (1, 32, 32), seed=s) for s in (seed, FOREIGN_SEED))
    assert not torch.equal(of_training, of_detection)
    _, found = detect(glyphs, ["gaussian"], "cpu", Progress(disable=True))
    leverage = next(one.foreign for one in found if one.score == "leverage")
    assert torch.allclose(leverage, learner.leverage(of_detection))
    assert not torch.allclose(leverage, learner.leverage(of_training))


def test_what_the_run_learns_is_not_foreign(glyphs: Path) -> None:
    assert "name a source of other images" in refusal("ood", glyphs, "--against", "glyphs")


KNOWN = KnownImages("glyphs", images=50, classes=2, accuracy=0.5, calibration_error=0.1)


def detections(foreign: torch.Tensor, sources: int) -> list[Detection]:
    known = {"MSP": torch.linspace(0, 1, 50), "leverage": torch.linspace(0, 3, 50)}
    return [
        Detection(f"folder:{'x' * 50}/{source}", score, values, foreign, evaluate_ood(values, foreign))
        for source in range(sources)
        for score, values in known.items()
    ]


def test_every_image_is_in_its_histogram() -> None:
    """However many scores are 0, which a logarithmic axis cannot show: the others still differ on it."""
    from matplotlib.figure import Figure

    known = torch.cat([torch.zeros(20), torch.logspace(-6, 0, 30)])
    foreign = torch.logspace(-3, 0, 40)
    axes = Figure().add_subplot()
    draw_histograms(axes, Detection("blobs", "MSP", known, foreign, evaluate_ood(known, foreign)))
    shares = [patch.get_data().values for patch in axes.patches]
    assert [one.sum() for one in shares] == pytest.approx([1.0] * 4)
    assert sum(shares[0] > 0) > 15
    assert sum(shares[2] > 0) > 15


@pytest.mark.parametrize("foreign", [torch.zeros(1), torch.full((3,), 1e30), torch.linspace(0, 1, 50)])
@pytest.mark.parametrize("picture", [histograms_picture, roc_picture])
def test_any_scores_and_any_number_of_sources_can_be_drawn(picture, foreign: torch.Tensor) -> None:
    shapes = [imread(BytesIO(picture(KNOWN, detections(foreign, sources)))).shape for sources in (1, 4)]
    assert {width for _, width, _ in shapes} == {1800}
    assert shapes[0][0] < shapes[1][0]
    zeros = torch.zeros(4)
    constant = [Detection("blobs", "leverage", zeros, zeros, evaluate_ood(zeros, zeros))]
    assert picture(KNOWN, constant) == picture(KNOWN, constant)
