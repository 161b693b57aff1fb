"""Where data comes from: data sets by name, and the phases in which their classes arrive."""

from acil.scenarios.labelled import DataSource, LabelledTensors
from acil.scenarios.phases import class_incremental, phase_classes
from acil.scenarios.registry import available, load_data

__all__ = [
    "DataSource",
    "LabelledTensors",
    "available",
    "class_incremental",
    "load_data",
    "phase_classes",
]
