"""``acil info``: what a model file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from acil.class_names import name_of


@click.command(epilog="\b\nExample:\n  acil info runs/glyphs-25-phases/model.safetensors")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def info(file: Path) -> None:
    """Show what the model FILE holds, after verifying it."""
    from acil.cli.console import stdout
    from acil.cli.tables import facts_table
    from acil.serialize import load_tensors

    tensors, metadata = load_tensors(file)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    stdout().print(facts_table(_facts(metadata, size)), soft_wrap=True)


def _facts(metadata: dict[str, Any], size: int) -> dict[str, str]:
    backbone, buffer, head = metadata["backbone"], metadata["buffer"], metadata["head"]
    return {
        "format": f"{metadata['format']} {metadata['format_version']}, content verified",
        "images": " x ".join(map(str, metadata["image_shape"])) if metadata["image_shape"] else "-",
        "backbone": backbone["name"] if backbone else "your own module",
        "buffer layer": f"{buffer['name']}, {buffer['in_features']} to {buffer['dim']} features, seed {buffer['seed']}",
        "head": ", ".join(
            [head["name"], f"gamma {head['gamma']}", *([f"{head['bits']} bits"] if "bits" in head else [])]
        ),
        "scale": "-" if metadata["scale"] is None else f"{metadata['scale']:.6g}",
        "classes": f"{len(metadata['classes'])}: {_names(metadata)}",
        "samples learned": str(sum(metadata["counts"])),
        "digest": metadata["digest"] or "- (only exact heads have one)",
        "tensors": f"{size / 1e6:.1f} MB",
    }


def _names(metadata: dict[str, Any], most: int = 20) -> str:
    classes = metadata["classes"]
    shown = [name_of(label, metadata["class_names"]) for label in classes[:most]]
    return " ".join(shown) + (" ..." if len(classes) > most else "")
