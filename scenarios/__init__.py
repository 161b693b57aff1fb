"""Where data comes from: data sets by name, their phases, and what makes them hard: noise, long tails, strangers."""

from acil.scenarios.label_noise import NoisyTensors, add_label_noise
from acil.scenarios.labelled import DataSource, LabelledTensors
from acil.scenarios.long_tail import long_tailed, shot_groups
from acil.scenarios.open_set import foreign_images
from acil.scenarios.phases import class_incremental, phase_classes
from acil.scenarios.registry import available, load_data

__all__ = [
    "DataSource",
    "LabelledTensors",
    "NoisyTensors",
    "add_label_noise",
    "available",
    "class_incremental",
    "foreign_images",
    "load_data",
    "long_tailed",
    "phase_classes",
    "shot_groups",
]
