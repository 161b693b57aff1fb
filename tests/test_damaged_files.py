"""A thousand damaged model files, and files that contradict themselves: all are refused by name."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from acil import (
    AnalyticHead,
    AnalyticLearner,
    DualStreamHead,
    ExactHead,
    FourierBuffer,
    LinearBuffer,
    ModelFileError,
    RandomBuffer,
    RecursiveHead,
)
from acil.backbones import create_backbone
from acil.buffer import Buffer
from acil.serialize import load_tensors, save_tensors

WIDTH, DIM = 4, 8
MUTATIONS = 1_000

PARTS: dict[str, Callable[[], tuple[Buffer, AnalyticHead]]] = {
    "exact": lambda: (FourierBuffer(WIDTH, DIM), ExactHead(DIM)),
    "recursive": lambda: (RandomBuffer(WIDTH, DIM), RecursiveHead(DIM)),
    "dual": lambda: (LinearBuffer(WIDTH, DIM), DualStreamHead(DIM)),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The model file of a learner of each kind."""
    path = tmp_path_factory.mktemp("models") / "whole"
    return {kind: written(kind, path) for kind in PARTS}


def written(kind: str, path: Path) -> bytes:
    learner = AnalyticLearner(
        create_backbone("identity", channels=WIDTH), *PARTS[kind](), class_names=("cat", "dog", "owl")
    )
    generator = torch.Generator().manual_seed(0)
    learner.learn(torch.randn(9, WIDTH, generator=generator), torch.arange(9) % 3)
    learner.save(path, notes={"data": "glyphs"})
    assert AnalyticLearner.load(path).classes.tolist() == [0, 1, 2]
    return path.read_bytes()


# --- damage ----------------------------------------------------------------------------------------------------------

Chance = random.Random
Damage = Callable[[bytes, Chance], bytes]


def parsed(content: bytes) -> tuple[Any, bytes]:
    """Header and tensors' bytes."""
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), content[start:]


def assembled(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def span(content: bytes, chance: Chance, longest: int = 64) -> tuple[int, int]:
    start = chance.randrange(len(content))
    return start, min(len(content), start + chance.randint(1, longest))


def flip_a_bit(content: bytes, chance: Chance) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def flip_a_bit_of_the_header(content: bytes, chance: Chance) -> bytes:
    end = 8 + int.from_bytes(content[:8], "little")
    return flip_a_bit(content[:end], chance) + content[end:]


def flip_a_bit_of_the_length(content: bytes, chance: Chance) -> bytes:
    return flip_a_bit(content[:8], chance) + content[8:]


def overwrite(content: bytes, chance: Chance) -> bytes:
    start, stop = span(content, chance)
    return content[:start] + chance.randbytes(stop - start) + content[stop:]


def zero(content: bytes, chance: Chance) -> bytes:
    start, stop = span(content, chance, longest=512)
    return content[:start] + bytes(stop - start) + content[stop:]


def truncate(content: bytes, chance: Chance) -> bytes:
    return content[: chance.randrange(len(content))]


def append(content: bytes, chance: Chance) -> bytes:
    return content + chance.choice([b"\0", b" ", chance.randbytes(8), content])


def cut_out(content: bytes, chance: Chance) -> bytes:
    start, stop = span(content, chance)
    return content[:start] + content[stop:]


def repeat(content: bytes, chance: Chance) -> bytes:
    start, stop = span(content, chance)
    return content[:stop] + content[start:]


def move(content: bytes, chance: Chance) -> bytes:
    start, stop = span(content, chance)
    to = chance.randrange(len(content) - (stop - start) + 1)
    return content[:to] + content[start:stop] + content[to + stop - start :]


def exchange_tensors(content: bytes, chance: Chance) -> bytes:
    """Names and shapes stay as they are, the values are another tensor's of the same size."""
    header, body = parsed(content)
    places = {name: facts["data_offsets"] for name, facts in header.items() if name != "__metadata__"}
    pairs = [
        (one, other)
        for one in places
        for other in places
        if places[one][1] - places[one][0] == places[other][1] - places[other][0]
        and body[slice(*places[one])] != body[slice(*places[other])]
    ]
    one, other = chance.choice(pairs)
    header[one]["data_offsets"], header[other]["data_offsets"] = places[other], places[one]
    return assembled(header, body)


def rename_tensor(content: bytes, chance: Chance) -> bytes:
    header, body = parsed(content)
    name = chance.choice([name for name in header if name != "__metadata__"])
    header[name + chance.choice(["", "x", ".weight"])[:9] if chance.random() < 0.5 else name[1:]] = header.pop(name)
    return assembled(header, body)


def retype_tensor(content: bytes, chance: Chance) -> bytes:
    """Another dtype of the same width, or another shape of the same size."""
    header, body = parsed(content)
    facts = header[chance.choice([name for name in header if name != "__metadata__"])]
    if chance.random() < 0.5 and facts["shape"]:
        facts["shape"] = chance.choice([facts["shape"][::-1], [*facts["shape"], 1], [1, *facts["shape"]]])
    else:
        same_width = {"I64": ["F64", "U64"], "F64": ["I64", "U64"], "F32": ["I32", "U32"]}
        facts["dtype"] = chance.choice([*same_width[facts["dtype"]], "F16", "F8_E4M3", "C64", "F4", "I128", ""])
    return assembled(header, body)


def edit_metadata(content: bytes, chance: Chance) -> bytes:
    """Another fact, under the checksum of the true one."""
    header, body = parsed(content)
    facts = json.loads(header["__metadata__"]["acil"])
    name = chance.choice(sorted(facts))
    facts[name] = chance.choice([None, 0, -1, 1e9, "x", [], {}, [facts[name]], {"name": facts[name]}])
    header["__metadata__"]["acil"] = json.dumps(facts)
    return assembled(header, body)


def reshape_header(content: bytes, chance: Chance) -> bytes:
    """Valid JSON of another form than a header has."""
    header, body = parsed(content)
    metadata = header["__metadata__"]
    facts = metadata["acil"]
    texts = ["", "null", "[]", "{}", "5", '"x"', "[" * 100_000, '{"format_version": []}', "\ud800", "NaN", facts + " "]
    forms = [
        [], {}, 5, "x", None, [header], {"__metadata__": metadata},
        *({**header, "__metadata__": other} for other in (5, [], "x", {}, {"acil": facts})),
        *({**header, "__metadata__": {**metadata, "checksum": other}} for other in ("", "0" * 64, 5)),
        *({**header, "__metadata__": {**metadata, "acil": text}} for text in texts),
    ]  # fmt: skip
    return assembled(chance.choice(forms), body)


DAMAGES: list[Damage] = [
    flip_a_bit, flip_a_bit_of_the_header, flip_a_bit_of_the_length, overwrite, zero, truncate, append, cut_out, repeat,
    move, exchange_tensors, rename_tensor, retype_tensor, edit_metadata, reshape_header,
]  # fmt: skip


def means_the_same(one: bytes, other: bytes) -> bool:
    """Equal but for white space in the header, say."""
    try:
        return parsed(one) == parsed(other)
    except (ValueError, RecursionError):
        return False


def damaged(content: bytes, damage: Damage, chance: Chance) -> bytes:
    while means_the_same(result := damage(content, chance), content):
        pass
    return result


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused_by_name(damage: Damage, saved: dict[str, bytes], tmp_path: Path) -> None:
    chance = random.Random(damage.__name__)
    path = tmp_path / "model"
    for number in range(-(-MUTATIONS // len(DAMAGES))):
        kind = sorted(PARTS)[number % len(PARTS)]
        path.write_bytes(damaged(saved[kind], damage, chance))
        with pytest.raises(ModelFileError, match=str(path)):
            AnalyticLearner.load(path)


# --- contradiction ---------------------------------------------------------------------------------------------------


def forged(content: bytes, path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """A file of which tensors or metadata were changed before its checksum was computed."""
    path.write_bytes(content)
    tensors, metadata = load_tensors(path)
    change(tensors, metadata)
    save_tensors(path, tensors, metadata)
    return path


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
REMOVABLE = ["buffer", "head", "classes", "counts", "scale", "digest"]
FACTS = ["format", "format_version", "backbone", *REMOVABLE]


@given(kind=st.sampled_from(sorted(PARTS)), name=st.sampled_from(FACTS), value=anything, missing=st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_metadata_that_contradicts_the_tensors_is_refused(
    saved: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, kind: str, name: str, value: Any, missing: bool
) -> None:
    def change(_: dict[str, Any], metadata: dict[str, Any]) -> None:
        if name in REMOVABLE and (missing or value == metadata[name]):
            del metadata[name]
        else:
            metadata[name] = value

    assume(name in REMOVABLE or value != {"format_version": 1}.get(name))  # True is 1 as well
    path = forged(saved[kind], tmp_path_factory.getbasetemp() / "forged", change)
    with pytest.raises(ModelFileError, match=str(path)):
        AnalyticLearner.load(path)


@pytest.mark.parametrize(
    ("part", "fact", "value"),
    [
        *(("head", "name", name) for name in ("recursive", "dual-stream", "exakt", "", None, [], 1)),
        *(("head", "dim", dim) for dim in (DIM - 1, DIM + 1, 0, -1, 10**30, 2.5, "8", None, True)),
        *(("head", "gamma", gamma) for gamma in (0, -1, float("nan"), float("inf"), "automatic", None, [0.1], 10**400)),
        *(("head", "bits", bits) for bits in (0, 12, "8", None, [8])),
        *(("head", fact, 1) for fact in ("rows", "device", "")),
        *(("buffer", "name", name) for name in ("random", "gaussian-kernel", "linear", "wavelet", None, {}, 3)),
        *(("buffer", "dim", dim) for dim in (DIM - 1, DIM + 1, 0, 10**30, "8", None)),
        *(("buffer", "in_features", width) for width in (WIDTH - 1, WIDTH + 1, 0, 2**62, None)),
        *(("buffer", "seed", seed) for seed in ("0", None, 2**70, 0.5, [1])),
        *(("backbone", "name", name) for name in ("convnet", "resnet19", "torchvision:", "torchvision:x", "", None, 3)),
        *(("backbone", "channels", channels) for channels in (WIDTH + 1, 0, 10**30, "4", None)),
        *(("backbone", fact, 1) for fact in ("checkpoint", "layers")),
        *((None, "batch_size", size) for size in (0, -1, 10**30, 1.5, None, "128", [1])),
        *((None, "class_names", names) for names in (None, "cat", [1], {"a": 1}, 3)),
        *((None, "image_shape", shape) for shape in ("x", 3, [0], [1, 2.5], {"a": 1}, [None])),
        *((None, "classes", classes) for classes in ([0, 1], [2, 1, 0], [0, 1, 3], [], None, "012")),
        *((None, "counts", counts) for counts in ([3, 3], [3, 3, 4], [], None, 9)),
        *((None, "scale", scale) for scale in (1.0, 0, float("nan"), None, "x")),
        *((None, "digest", digest) for digest in ("0" * 64, "", None, 5)),
        *((None, "format", name) for name in ("other", None, 1)),
        *((None, "format_version", version) for version in (0, 2, "1", None, [1])),
    ],
    ids=str,
)
def test_every_wrong_fact_is_refused(
    saved: dict[str, bytes], tmp_path: Path, part: str | None, fact: str, value: object
) -> None:
    def change(_: dict[str, Any], metadata: dict[str, Any]) -> None:
        (metadata[part] if part else metadata)[fact] = value

    with pytest.raises(ModelFileError, match=str(tmp_path / "forged")):
        AnalyticLearner.load(forged(saved["exact"], tmp_path / "forged", change))


@pytest.mark.parametrize("kind", PARTS)
def test_tensors_that_are_missing_added_or_of_another_shape_are_refused(
    kind: str, saved: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "forged"
    path.write_bytes(saved[kind])
    for name, tensor in load_tensors(path)[0].items():
        longer = torch.cat([tensor, tensor]) if tensor.ndim and len(tensor) else torch.zeros(3, dtype=tensor.dtype)
        if name.endswith("_pending"):  # any number of rows may be pending
            longer = longer[:, 1:]
        for other in (None, longer, tensor[None], tensor.reshape(-1)[:1] if tensor.ndim else tensor.repeat(2)):
            if other is not None and other.shape == tensor.shape:
                continue

            def change(tensors: dict[str, Any], _: dict[str, Any], name: str = name, other: Any = other) -> None:
                if other is None:
                    del tensors[name]
                else:
                    tensors[name] = other

            with pytest.raises(ModelFileError, match=str(path)):
                AnalyticLearner.load(forged(saved[kind], path, change))
    with pytest.raises(ModelFileError, match=str(path)):
        AnalyticLearner.load(forged(saved[kind], path, lambda tensors, _: tensors.update(more=torch.ones(2))))


# --- no model files at all -------------------------------------------------------------------------------------------


def no_files(folder: Path) -> Iterator[Path]:
    empty, loop, dangling, pipe = (folder / name for name in ("empty", "loop", "dangling", "pipe"))
    empty.touch()
    loop.symlink_to(loop)
    dangling.symlink_to(folder / "nowhere")
    os.mkfifo(pipe)
    yield from (folder, empty, loop, dangling, pipe)
    yield from (folder / "nowhere", empty / "inside", folder / ("a" * 300), Path("/dev/null"), Path(__file__))


def test_what_is_no_file_of_ours_is_refused_by_name(tmp_path: Path) -> None:
    for path in no_files(tmp_path):
        with pytest.raises(ModelFileError, match=str(path)):
            AnalyticLearner.load(path)


def test_a_file_that_does_not_fit_leaves_the_backbone_as_it_was(tmp_path: Path) -> None:
    learner = AnalyticLearner(torch.nn.Linear(WIDTH, WIDTH), RandomBuffer(WIDTH, DIM), ExactHead(DIM))
    learner.save(tmp_path / "model")
    backbone = torch.nn.Sequential()
    backbone.weight = torch.nn.Parameter(torch.ones(WIDTH, WIDTH))
    backbone.bias = torch.nn.Parameter(torch.ones(WIDTH))
    backbone.more = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(ModelFileError, match="more"):
        AnalyticLearner.load(tmp_path / "model", backbone)
    assert all(bool((value == 1).all()) for value in backbone.parameters())
    assert backbone.training
    assert all(value.requires_grad for value in backbone.parameters())
