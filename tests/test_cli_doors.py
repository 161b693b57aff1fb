"""Commands on model files, end to end on image files: learn, forget, merge, fresh, predict, verify."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from acil import AnalyticLearner
from acil.cli import main
from acil.scenarios.glyphs import glyphs
from acil.serialize import load_metadata

# A letter of its own in a colour of its own, so that a tiny backbone tells them apart.
COLOURS = {
    "ant": (255, 60, 60),
    "bee": (60, 255, 60),
    "cat": (60, 60, 255),
    "dog": (255, 255, 60),
    "eel": (255, 60, 255),
    "fox": (60, 255, 255),
    "gnu": (255, 255, 255),
    "hen": (160, 60, 20),
}
OF_THE_RUN = ("ant", "bee", "cat", "dog", "eel", "fox")
TRAIN, TEST = 16, 4


def acil(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    """What a command prints that must succeed."""
    result = acil(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*arguments: object) -> str:
    """The one line of a command that must be refused."""
    result = acil(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def digest(model: Path) -> str:
    return str(load_metadata(model)["digest"])


def known(model: Path) -> dict[str, int]:
    """Samples of each class that a model file holds, by name."""
    facts = load_metadata(model)
    return {facts["class_names"][label]: n for label, n in zip(facts["classes"], facts["counts"], strict=True)}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("ACIL_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``run/train`` and ``run/test`` of six classes, and for each class ``NAME/NAME`` and ``NAME-test/NAME``."""
    root = tmp_path_factory.mktemp("photos")
    source = glyphs(classes=len(COLOURS), train_per_class=TRAIN, test_per_class=TEST)
    names = list(COLOURS)
    for part, data in {"train": source.train, "test": source.test}.items():
        for place, (pixels, label) in enumerate(zip(data.inputs[:, 0].numpy(), data.targets.tolist(), strict=True)):
            name = names[label]
            tinted = (0.5 * (pixels[..., None] / 255 + 1) * COLOURS[name]).astype(np.uint8)
            folders = [root / (name if part == "train" else f"{name}-test") / name]
            if name in OF_THE_RUN:
                folders.append(root / "run" / part / name)
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(tinted).save(folder / f"{place}.png")
    return root


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on six classes, four of them in the base phase."""
    folder = tmp_path_factory.mktemp("runs") / "colours"
    sizes = ["--phases", "2", "--base-classes", "4", "--epochs", "3", "--buffer-size", "64"]
    done("run", "--data", f"folder:{photos / 'run'}", *sizes, "--output", folder)
    return folder


@pytest.fixture
def model(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run's model that a test may change."""
    return Path(shutil.copy(finished / "model.safetensors", tmp_path / "model.safetensors"))


@pytest.fixture
def start(model: Path) -> Path:
    """A fresh start for clients."""
    done("fresh", model, "-o", model.with_name("start.safetensors"))
    return model.with_name("start.safetensors")


def test_learning_by_command_equals_learning_in_python(model: Path, photos: Path) -> None:
    learner = AnalyticLearner.load(model)
    done("learn", model, photos / "gnu")
    import torch

    files = sorted((photos / "gnu" / "gnu").iterdir())
    images = torch.stack([torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) for file in files])
    learner.learn(images, torch.full((len(images),), 6))
    assert digest(model) == learner.digest()
    assert known(model) == dict.fromkeys((*OF_THE_RUN, "gnu"), TRAIN)


def test_learning_says_what_was_learned_and_the_digests(model: Path, photos: Path) -> None:
    before = digest(model)
    shown = done("learn", model, photos / "gnu", "-o", model.with_name("more"))
    assert digest(model) == before
    after = digest(model.with_name("more"))
    assert any(line.split() == ["gnu", str(TRAIN), str(TRAIN), "new"] for line in shown.splitlines())
    assert before[:16] in shown and after[:16] in shown and before != after
    shown = done("learn", model, photos / "ant")
    assert any(line.split() == ["ant", str(TRAIN), str(2 * TRAIN)] for line in shown.splitlines())


def test_order_and_parts_of_learning_do_not_matter(start: Path, photos: Path) -> None:
    one, other = start.with_name("one"), start.with_name("other")
    done("learn", start, photos / "run", "-o", one)
    shutil.copy(start, other)
    for name in ("fox", "ant", "cat"):
        done("learn", other, photos / "run", "--only", name)
    done("learn", other, photos / "run", "--only", "bee", "--only", "dog", "--only", "eel")
    assert digest(one) == digest(other)


def test_forgetting_undoes_learning(model: Path, photos: Path) -> None:
    before = digest(model)
    done("learn", model, photos / "gnu")
    shown = done("forget", model, photos / "gnu")
    assert any(line.split() == ["gnu", str(TRAIN), "0", "gone"] for line in shown.splitlines())
    assert digest(model) == before
    assert "gnu" not in known(model)


def test_a_forgotten_class_is_never_predicted_again_until_it_comes_back(model: Path, photos: Path) -> None:
    before = digest(model)
    done("forget", model, photos / "run", "--only", "cat")
    document = json.loads(done("predict", model, photos / "run" / "test", "--json"))
    assert not [one for one in document["predictions"] if "cat" in (one["class"], one["runner_up"]["class"])]
    done("learn", model, photos / "cat")
    assert digest(model) == before


def test_verify_proves_what_a_model_knows(model: Path, photos: Path) -> None:
    assert "equal, bit for bit" in done("verify", model, photos / "run")
    few = photos.with_name("few")
    (few / "ant").mkdir(parents=True)
    for file in sorted((photos / "ant" / "ant").iterdir())[:3]:
        shutil.copy(file, few / "ant")
    done("forget", model, few)
    result = acil("verify", model, photos / "run")
    assert result.exit_code == 1
    assert "DIFFERENT" in result.stdout
    assert f"ant: the model has learned {TRAIN - 3} samples, the data holds {TRAIN}" in result.stdout
    left = photos.with_name("left")
    shutil.copytree(photos / "run" / "train", left)
    for file in (few / "ant").iterdir():
        (left / "ant" / file.name).unlink()
    assert "equal, bit for bit" in done("verify", model, left)


def test_verify_takes_parts_of_data_and_several(model: Path, photos: Path) -> None:
    done("learn", model, photos / "gnu")
    done("forget", model, photos / "run", "--only", "cat")
    assert "equal, bit for bit" in done("verify", model, photos / "gnu", photos / "run", "--without", "cat")
    assert acil("verify", model, photos / "gnu", photos / "run").exit_code == 1
    assert acil("verify", model, photos / "run", "--without", "cat").exit_code == 1
    done("forget", model, photos / "run", *(f"--only={name}" for name in OF_THE_RUN if name not in ("cat", "dog")))
    assert "equal" in done("verify", model, photos / "gnu", photos / "run", "--only", "gnu", "--only", "dog")


def test_verify_tells_other_images_of_equal_counts(model: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "run" / "train", tmp_path / "other")
    first = min((tmp_path / "other" / "ant").iterdir())
    Image.fromarray(255 - np.array(Image.open(first))).save(first)
    result = acil("verify", model, tmp_path / "other")
    assert result.exit_code == 1
    assert "the counts of all classes agree" in result.stdout


def test_a_run_whose_model_has_forgotten_says_so(finished: Path, tmp_path: Path, photos: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    done("forget", run / "model.safetensors", run, "--only", "cat")
    result = acil("verify", run)
    assert result.exit_code == 1
    assert "DIFFERENT" in result.stdout
    assert f"acil verify {run / 'model.safetensors'} DATA" in result.stdout
    assert "equal" in done("verify", run / "model.safetensors", run, "--without", "cat")
    done("learn", run / "model.safetensors", run, "--only", "cat")
    assert "equal" in done("verify", run)


def test_a_split_folder_is_forgotten_as_a_run_learned_it(photos: Path, tmp_path: Path) -> None:
    run, whole = tmp_path / "run", photos / "run" / "train"
    sizes = ["--phases", "1", "--base-classes", "3", "--epochs", "1", "--buffer-size", "32"]
    done("run", "--data", f"folder:{whole}", *sizes, "--output", run)
    assert "equal" in done("verify", run / "model.safetensors", f"folder:{whole}")
    assert "ant" in refusal("forget", run / "model.safetensors", whole)
    done("forget", run / "model.safetensors", f"folder:{whole}", "--only", "ant")


def test_clients_with_classes_of_their_own_merge_into_joint_learning(start: Path, photos: Path) -> None:
    ann, bob, merged, joint = (start.with_name(name) for name in ("ann", "bob", "merged", "joint"))
    done("learn", start, photos / "gnu", "-o", ann)
    done("learn", start, photos / "hen", "-o", bob)
    done("learn", bob, photos / "ant")
    assert load_metadata(ann)["classes"] == [6]  # each client's own class has the same label
    assert load_metadata(bob)["classes"] == [0, 6]
    done("merge", ann, bob, "-o", merged)
    assert known(merged) == {"ant": TRAIN, "gnu": TRAIN, "hen": TRAIN}
    shutil.copy(start, joint)
    for name in ("gnu", "hen", "ant"):
        done("learn", joint, photos / name)
    assert digest(merged) == digest(joint)
    done("merge", bob, ann, "-o", merged)  # the other order gives other labels to the same classes
    assert "equal" in done("verify", merged, photos / "gnu", photos / "ant", photos / "hen")


def test_clients_merge_into_the_model_they_started_from(model: Path, start: Path, photos: Path) -> None:
    ann, bob = start.with_name("ann"), start.with_name("bob")
    done("learn", start, photos / "gnu", "-o", ann)
    done("learn", start, photos / "hen", "-o", bob)
    shown = done("merge", model, ann, bob, "-o", model)
    assert digest(model)[:16] in shown
    assert "equal" in done("verify", model, photos / "run", photos / "hen", photos / "gnu")


def test_a_fresh_start_has_learned_nothing(start: Path, photos: Path) -> None:
    assert known(start) == {}
    assert "nothing" in refusal("predict", start, photos / "ant")


def test_models_of_other_paths_do_not_merge(model: Path, finished: Path, photos: Path, tmp_path: Path) -> None:
    import torch

    learner = AnalyticLearner.load(model)
    parts = {
        "backbone": next(learner.backbone.parameters()),
        "buffer layer": next(learner.buffer.buffers()),
        "scale": learner.head.quantizer.scale,
    }
    for part, tensor in parts.items():
        before = tensor.detach().clone()
        with torch.no_grad():
            tensor.mul_(1.5)
        learner.save(tmp_path / "other")
        with torch.no_grad():
            tensor.copy_(before)
        line = refusal("merge", model, tmp_path / "other", "-o", tmp_path / "merged")
        assert f"the {part} differ" in line
        assert f"{tmp_path / 'other'} does not merge into {model}" in line
    assert not (tmp_path / "merged").exists()


def test_the_same_samples_do_not_count_twice(model: Path, tmp_path: Path) -> None:
    shutil.copy(model, tmp_path / "copy")
    assert "count twice" in refusal("merge", model, tmp_path / "copy", "-o", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_predict_names_the_classes(model: Path, photos: Path) -> None:
    for name in ("gnu", "hen"):
        done("learn", model, photos / name)
    folders = [photos / f"{name}-test" for name in COLOURS]
    document = json.loads(done("predict", model, *folders, "--json"))
    assert len(document["predictions"]) == TEST * len(COLOURS)
    right = [one["class"] == Path(one["file"]).parent.name for one in document["predictions"]]
    assert np.mean(right) > 0.9
    assert all(one["score"] >= one["runner_up"]["score"] for one in document["predictions"])
    assert all(one["class"] != one["runner_up"]["class"] for one in document["predictions"])


def test_predictions_are_those_of_the_learner(model: Path, photos: Path) -> None:
    import torch

    learner = AnalyticLearner.load(model)
    files = sorted((photos / "run" / "test").rglob("*.png"))
    images = torch.stack([torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) for file in files])
    expected = [learner.class_names[label] for label in learner.predict(images).tolist()]
    shown = json.loads(done("predict", model, photos / "run" / "test", "--json"))["predictions"]
    assert [one["class"] for one in shown] == expected
    best = learner(images).max(dim=1).values.tolist()
    assert [one["score"] for one in shown] == pytest.approx(best, abs=1e-5)


def test_predict_takes_files_folders_and_patterns_once_each(model: Path, photos: Path) -> None:
    folder = photos / "ant-test" / "ant"
    files = sorted(folder.iterdir())
    for given in ([folder], [folder / "*.png"], [photos / "ant-test" / "**" / "*.png"], files, [folder, *files]):
        shown = json.loads(done("predict", model, *given, "--json"))["predictions"]
        assert [one["file"] for one in shown] == [str(file) for file in files]
    table = done("predict", model, files[0])
    assert "ant" in table and "runner-up" in table


def test_predict_turns_scales_and_colours_as_in_training(model: Path, photos: Path, tmp_path: Path) -> None:
    file = min((photos / "fox-test" / "fox").iterdir())
    pixels = np.array(Image.open(file))
    orientation = Image.Exif()
    orientation[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "sideways.png", exif=orientation)
    Image.fromarray(np.kron(pixels, np.ones((3, 3, 1), np.uint8))).save(tmp_path / "large.png")
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "transparent.png")
    names = ("sideways", "large", "transparent")
    shown = json.loads(done("predict", model, file, *(tmp_path / f"{name}.png" for name in names), "--json"))
    plain, sideways, large, transparent = shown["predictions"]
    assert sideways["score"] == pytest.approx(plain["score"], abs=1e-6)
    assert transparent["score"] == pytest.approx(plain["score"], abs=1e-6)
    assert large["class"] == plain["class"]


def test_a_model_of_one_class_has_no_runner_up(start: Path, photos: Path) -> None:
    done("learn", start, photos / "gnu")
    (one,) = json.loads(done("predict", start, min((photos / "gnu" / "gnu").iterdir()), "--json"))["predictions"]
    assert (one["class"], one["runner_up"]) == ("gnu", None)


def test_grey_models_know_their_glyphs_from_files(tmp_path: Path) -> None:
    run = tmp_path / "run"
    sizes = ["--classes", "4", "--train-per-class", "6", "--test-per-class", "2"]
    settings = ["--phases", "1", "--base-classes", "2", "--epochs", "1", "--buffer-size", "32"]
    done("run", *sizes, *settings, "--output", run)
    source = glyphs(classes=4, train_per_class=6, test_per_class=2)
    for place, (pixels, label) in enumerate(zip(source.train.inputs[:, 0].numpy(), source.train.targets, strict=True)):
        folder = tmp_path / "letters" / source.class_names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{place}.png")
    assert "equal, bit for bit" in done("verify", run / "model.safetensors", tmp_path / "letters")
    assert "equal, bit for bit" in done("verify", run / "model.safetensors", run)


@pytest.fixture
def feature_model(tmp_path: Path) -> Path:
    """A model of feature rows, with ``rows.npz`` beside it."""
    labels = np.arange(60) % 6
    rows = np.random.default_rng(0).normal(size=(60, 12)).astype("float32") + 3 * np.eye(12, dtype="float32")[labels]
    parts = {"train_features": rows, "train_labels": labels, "test_features": rows, "test_labels": labels}
    np.savez(tmp_path / "rows.npz", **parts)
    options = ["--data", f"features:{tmp_path / 'rows.npz'}", "--base-classes", "0", "--buffer-size", "64"]
    done("run", "--phases", "3", *options, "--output", tmp_path / "features-run")
    return tmp_path / "features-run" / "model.safetensors"


def test_feature_models_learn_and_forget_rows_but_take_no_images(feature_model: Path, photos: Path) -> None:
    rows = f"features:{feature_model.parents[1] / 'rows.npz'}"
    before = digest(feature_model)
    done("forget", feature_model, rows, "--only", "3")
    assert "equal" in done("verify", feature_model, rows, "--without", "3")
    done("learn", feature_model, rows, "--only", "3")
    assert digest(feature_model) == before
    for command in (["learn", feature_model, photos / "ant"], ["predict", feature_model, photos / "ant"]):
        assert "feature rows" in refusal(*command)
    narrow = feature_model.with_name("narrow.npz")
    np.savez(narrow, features=np.zeros((4, 5), "float32"), labels=np.array([0, 0, 1, 1]))
    assert "(12,)" in refusal("learn", feature_model, f"features:{narrow}")


def test_recursive_models_learn_and_verify_but_do_not_forget(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    sizes = ["--phases", "2", "--base-classes", "4", "--epochs", "1", "--buffer-size", "32", "--head", "recursive"]
    done("run", "--data", f"folder:{photos / 'run'}", *sizes, "--output", run)
    model = run / "model.safetensors"
    done("learn", model, photos / "gnu")
    assert "within rounding" in done("verify", model, photos / "run", photos / "gnu")
    assert acil("verify", model, photos / "run").exit_code == 1
    before = model.read_bytes()
    assert "cannot forget" in refusal("forget", model, photos / "gnu")
    assert model.read_bytes() == before


def bad_calls(model: Path, photos: Path) -> dict[str, tuple[list[object], str]]:
    broken, flat, twice = (model.with_name(name) for name in ("broken", "flat", "missing"))
    (broken / "ant").mkdir(parents=True)
    (broken / "ant" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    flat.mkdir()
    shutil.copy(min((photos / "ant" / "ant").iterdir()), flat / "ant.png")
    return {
        "no such data": (["learn", model, twice], "neither a folder nor a data set"),
        "a misspelt data set": (["learn", model, "glyph"], "glyphs"),
        "no class folders": (["learn", model, flat], "class folders"),
        "an unreadable image": (["learn", model, broken], "torn.png"),
        "an unknown class to learn": (["learn", model, photos / "run", "--only", "yak"], "'yak'"),
        "features for images": (["learn", model, "features:missing.npz"], "missing.npz"),
        "a folder as model": (["learn", model.parent, photos / "ant"], "is a folder"),
        "no model": (["learn", twice, photos / "ant"], "there is no model file"),
        "no folder for the output": (["learn", model, photos / "ant", "-o", twice / "x"], "there is no folder"),
        "an unusable device": (["learn", model, photos / "ant", "--device", "abacus"], "abacus"),
        "never learned": (["forget", model, photos / "gnu"], "learned 0 samples of gnu"),
        "an unreadable image to forget": (["forget", model, broken], "torn.png"),
        "an unknown class to forget": (["forget", model, photos / "run", "--only", "yak"], "'yak'"),
        "one model to merge": (["merge", model, "-o", twice], "Missing argument"),
        "no output of a merge": (["merge", model, model], "Missing option"),
        "no model to merge": (["merge", model, twice, "-o", model], "there is no model file"),
        "no file to predict": (["predict", model, twice], "no file"),
        "an empty pattern": (["predict", model, flat / "*.jpg"], "pattern"),
        "an unreadable image to predict": (["predict", model, flat, broken], "torn.png"),
        "verify without data": (["verify", model], f"acil verify {model} DATA"),
        "verify two runs": (["verify", model.parent, photos], "is a run, which is verified alone"),
        "classes of no data": (["verify", model, "--only", "ant"], "--only"),
        "an unknown class to leave out": (["verify", model, photos / "run", "--without", "yak"], "'yak'"),
        "no class left": (["verify", model, photos / "ant", "--without", "ant"], "no class"),
        "no such data to verify": (["verify", model, twice], "neither a folder nor a data set"),
    }


def test_bad_calls_are_one_line_and_leave_the_model_as_it_was(model: Path, photos: Path) -> None:
    before, calls = model.read_bytes(), bad_calls(model, photos)
    listing = sorted(model.parent.iterdir())
    for name, (arguments, told) in calls.items():
        assert told in refusal(*arguments), name
        assert model.read_bytes() == before, name
        assert sorted(model.parent.iterdir()) == listing, name


def test_other_images_of_a_learned_class_are_refused(model: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "ant", tmp_path / "other")
    first = min((tmp_path / "other" / "ant").iterdir())
    Image.fromarray(255 - np.array(Image.open(first))).save(first)
    before = model.read_bytes()
    assert "cannot all have been learned" in refusal("forget", model, tmp_path / "other")
    assert model.read_bytes() == before


def test_more_images_of_a_class_than_were_learned_are_refused_by_name(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos / "ant", tmp_path / "more")
    shutil.copy(min((photos / "bee" / "bee").iterdir()), tmp_path / "more" / "ant" / "bee.png")
    before = model.read_bytes()
    assert f"learned {TRAIN} samples of ant, but" in refusal("forget", model, tmp_path / "more")
    assert model.read_bytes() == before


def test_a_model_that_another_process_replaced_is_left_alone(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from acil.cli.named_data import NamedData

    extract = NamedData.extract

    def slowly(self: NamedData, *arguments: object) -> object:
        monkeypatch.undo()
        done("learn", model, photos / "hen")  # another process, meanwhile
        return extract(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(NamedData, "extract", slowly)
    result = acil("learn", model, photos / "gnu")
    assert result.exit_code == 2
    assert "another process" in result.stderr
    assert known(model) == dict.fromkeys((*OF_THE_RUN, "hen"), TRAIN)


def test_a_link_to_a_model_stays_a_link(model: Path, photos: Path) -> None:
    link = model.with_name("link.safetensors")
    link.symlink_to(model)
    done("learn", link, photos / "gnu")
    assert link.is_symlink()
    assert "gnu" in known(model)


@pytest.mark.slow
def test_a_killed_command_leaves_a_whole_model(model: Path, photos: Path) -> None:
    before, command = model.read_bytes(), [sys.executable, "-m", "acil.cli", "learn", str(model), str(photos / "gnu")]
    started = time.perf_counter()
    subprocess.run([*command, "-o", str(model.with_name("after"))], check=True, capture_output=True)
    seconds, after = time.perf_counter() - started, digest(model.with_name("after"))
    for delay in np.linspace(0.3, 1.05, 12) * seconds:
        model.write_bytes(before)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        AnalyticLearner.load(model)
        assert model.read_bytes() == before or digest(model) == after
