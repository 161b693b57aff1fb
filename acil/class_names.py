"""Classes that go by name: which label a name stands for, and which it gets when it is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def match_names(
    names: Sequence[str], class_names: Sequence[str], classes: Iterable[int]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Label classes by name: a known name keeps its label, new names get the next ones in their order.

    Args:
        names: of the classes to label.
        class_names: ``class_names[label]`` is the name of that label.
        classes: the labels in use; each must have a name, lest a new class takes its place.

    Returns:
        The label of each name, and the class names with the new ones at the end.

    Raises:
        ValueError: a label in use has no name, or two labels have the same.
    """
    if nameless := [label for label in classes if label >= len(class_names)]:
        raise ValueError(f"label {nameless[0]} has no name to match classes by; give class_names for all labels")
    if twice := [name for name, times in Counter(class_names).items() if times > 1]:
        raise ValueError(f"two classes are called {twice[0]!r}; give every class a name of its own")
    known = tuple(dict.fromkeys([*class_names, *names]))
    label_of = {name: label for label, name in enumerate(known)}
    return {name: label_of[name] for name in names}, known


def name_of(label: int, class_names: Sequence[str]) -> str:
    """The name of a label, or the label itself where it has none."""
    return class_names[label] if label < len(class_names) else str(label)
