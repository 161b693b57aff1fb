"""Pretrained weights from a file."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

# What training code puts before the names of a network's tensors.
PREFIXES = ("module.", "backbone.", "model.", "network.")
# Under what name training code files the state dict, beside the epoch and the optimizer.
WRAPPERS = ("state_dict", "model")


def load_checkpoint(backbone: nn.Module, path: Path) -> None:
    """Fill a backbone from a state dict file; nothing in the file is executed.

    Tensors that only the file has (a classifier, say) are ignored.

    Raises:
        ValueError: the file is missing or cannot be read, or tensors of the backbone are missing or of another shape.
    """
    # Our input layer is not part of any published checkpoint, and torchvision's names lack our prefix.
    wanted = {
        _bare(name): name
        for name in backbone.state_dict()
        if not name.endswith((".mean", ".std", "num_batches_tracked"))
    }
    found = {_bare(name): tensor for name, tensor in _read(path).items()}
    state = backbone.state_dict()
    missing = [name for name in wanted if name not in found]
    different = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(state[full].shape)}"
        for name, full in wanted.items()
        if name in found and found[name].shape != state[full].shape
    ]
    if missing or different:
        shown = ", ".join((missing + different)[:3])
        raise ValueError(
            f"{path} does not fit the backbone: {len(missing)} tensors are missing and {len(different)} have another "
            f"shape ({shown}, ...); choose the backbone that it was trained for"
        )
    backbone.load_state_dict({full: found[name] for name, full in wanted.items()}, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}")
    content: object
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the readers raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as a state dict: {reason}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; save model.state_dict() instead")
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def _bare(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name
