"""Errors that a caller may want to catch, every one of them a ``ValueError``, and warnings."""


class ModelFileError(ValueError):
    """A model file is missing, truncated, tampered with, or of another format."""


class NotLearnedError(ValueError):
    """Samples to forget were never learned, as far as counts and moments can tell."""


class RankLostError(ValueError):
    """Another rank of a distributed run ended, or did not answer in time."""


class SingularMomentsError(ValueError):
    """The regularised moments are numerically singular; a larger gamma solves it."""


class IllConditionedWarning(UserWarning):
    """A solve lost so many digits that a larger gamma is advisable."""
