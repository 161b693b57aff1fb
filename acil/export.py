"""Classifiers for other runtimes: ONNX files and ``torch.export`` programs."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor

from acil.checks import check_image_shape, check_path
from acil.classifier import Classifier
from acil.files import write_atomically

INPUT, OUTPUTS = "images", ["logits", "labels"]


def export_classifier(classifier: Classifier, path: str | Path, image_shape: tuple[int, ...]) -> None:
    """Write a classifier as one file that needs no ``acil`` to run.

    Input ``images``: (n, C, H, W) float32 in [0, 1], any n. Outputs ``logits``: (n, K) float32, and ``labels``: (n,)
    int64. An ONNX file names the classes in its metadata: ``classes`` and ``class_names``, both JSON.

    Args:
        classifier: as ``AnalyticLearner.snapshot`` makes it.
        path: ends in ``.onnx``, or in ``.pt2`` for ``torch.export``; an earlier file is replaced when all is written.
        image_shape: (C, H, W) of the images.

    Raises:
        ValueError: the suffix is another, the network cannot be exported, or packages are missing; says which.
    """
    path = check_path(path)
    check_image_shape(image_shape)
    writers = {".onnx": _onnx, ".pt2": _program}
    if path.suffix not in writers:
        raise ValueError(f"the suffix chooses the format: {' or '.join(writers)}, got {path.name!r}")
    example = torch.rand(2, *image_shape, device=classifier.classes.device)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of exporters about themselves
            content = writers[path.suffix](classifier, example)
    except ImportError as error:
        raise ValueError(f'{error.name} is missing; run: pip install "acil[onnx]"') from error
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"this network cannot be exported to {path.suffix}: {reason}") from error
    write_atomically(path, content)


def _onnx(classifier: Classifier, example: Tensor) -> bytes:
    import onnx  # noqa: F401 - says which package is missing before the exporter starts
    import onnxscript  # noqa: F401

    program = torch.onnx.export(
        classifier,
        (example,),
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        input_names=[INPUT],
        output_names=OUTPUTS,
    )
    assert program is not None
    proto = program.model_proto
    facts = {"classes": classifier.classes.tolist(), "class_names": list(classifier.class_names)}
    for name, value in facts.items():
        proto.metadata_props.add(key=name, value=json.dumps(value, ensure_ascii=False))
    content: bytes = proto.SerializeToString()
    return content


def _program(classifier: Classifier, example: Tensor) -> bytes:
    program = torch.export.export(classifier, (example,), dynamic_shapes=({0: torch.export.Dim("n")},))
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()
