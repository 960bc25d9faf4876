"""What a user can get wrong. Each message says what was wrong, the value seen, where, and what to
do.
"""


class SslPartsError(ValueError):
    """Parent of every error that a user can mend; launch scripts print it as one line, without a
    traceback.
    """


class ConfigError(SslPartsError):
    """A configuration value, or two that do not fit each other."""


class DataError(SslPartsError):
    """A data set, an image or an annotation on disk."""


class WeightsError(SslPartsError):
    """A checkpoint: unreadable, of another architecture, or only partly matching."""


class PartDiscoveryError(SslPartsError):
    """Part discovery: too few points, non-finite features, a store that does not belong to the
    data set.
    """


class EvaluationError(SslPartsError):
    """A measurement that failed after a training that is finished, exported and kept."""


class TrainingError(SslPartsError):
    """Training that cannot go on: a non-finite loss, a collapsed encoder, views that never share a
    part.
    """
