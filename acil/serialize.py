"""One file format: safetensors with JSON metadata, written atomically and verified on load."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from acil.errors import ModelFileError
from acil.files import write_atomically

FORMAT = "acil-model"
FORMAT_VERSION = 1


def fingerprint(tensors: Mapping[str, Tensor], kind: str = "") -> str:
    """SHA-256 of named tensors: names, dtypes, shapes and values, and of what kind of thing they make up."""
    sha = hashlib.sha256(kind.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)  # numpy knows no bfloat16
    return sha.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able metadata into one file, atomically.

    Raises:
        ValueError: the file cannot be written, or the metadata is no JSON; an earlier file is untouched.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    seen: set[int] = set()
    for name, tensor in stored.items():  # safetensors takes no tensor twice, as in networks with tied weights
        stored[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    try:
        text = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **metadata})
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot write {path}: notes and specs must be JSON-able: {error}") from error
    header = {"acil": text, "checksum": _checksum(text, stored)}
    write_atomically(path, safetensors.torch.save(stored, header))


def load_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a model file, without reading its tensors.

    Raises:
        ModelFileError: no such file, or not one of this format.
    """
    return _parse_metadata(path, _read_header(path)["acil"])


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a model file, after its checksum was verified.

    Raises:
        ModelFileError: the file is missing, truncated, tampered with, or of another format; names the file.
    """
    header = _read_header(path)
    metadata = _parse_metadata(path, header["acil"])
    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path} cannot be read as a model file: {error}") from error
    if _checksum(header["acil"], tensors) != header["checksum"]:
        raise ModelFileError(f"{path} is damaged: its content does not match its checksum; restore it from a copy")
    return tensors, metadata


def _read_header(path: Path) -> dict[str, str]:
    if not os.path.isfile(path):  # noqa: PTH113 (Path.is_file fails on names that are too long)
        raise ModelFileError(f"there is no model file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path} is truncated or no model file: {error}") from error
    if "acil" not in header or "checksum" not in header:
        raise ModelFileError(f"{path} is a safetensors file, but not one written by acil")
    return dict(header)


def _parse_metadata(path: Path, text: str) -> dict[str, Any]:
    try:
        metadata: dict[str, Any] = json.loads(text)
        name, version = metadata["format"], metadata["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: its metadata cannot be read") from error
    if name != FORMAT:
        raise ModelFileError(f"{path} holds a {name}, not a learner that acil saved")
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version}, this acil reads version {FORMAT_VERSION}; update acil"
        )
    return metadata


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256((text + fingerprint(tensors)).encode()).hexdigest()
