"""The configuration of part discovery: its classes, the groups that choose them, and how one is
read back.

Imports no torch: schemas are read before anything heavy is.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssl_parts.errors import ConfigError
from ssl_parts.parts.clustering.config import CentroidsConfig, LloydConfig
from ssl_parts.parts.dense.config import DenseConfig
from ssl_parts.parts.foreground.config import (
    FOREGROUND_CONFIGS,
    BoxConfig,
    ComponentConfig,
    ForegroundConfig,
    MaskConfig,
    MiningConfig,
    NoForegroundConfig,
    SaliencyConfig,
    VotesConfig,
)
from ssl_parts.parts.methods.config import (
    METHOD_CONFIGS,
    CosegmentConfig,
    DatasetConfig,
    FelzenszwalbConfig,
    PartsConfig,
    PerImageConfig,
    SlicConfig,
)
from ssl_parts.parts.refinement.config import CrfConfig

__all__ = [
    "FOREGROUND_CONFIGS",
    "METHOD_CONFIGS",
    "BoxConfig",
    "CentroidsConfig",
    "ComponentConfig",
    "CosegmentConfig",
    "CrfConfig",
    "DatasetConfig",
    "DenseConfig",
    "FelzenszwalbConfig",
    "ForegroundConfig",
    "LloydConfig",
    "MaskConfig",
    "MiningConfig",
    "NoForegroundConfig",
    "PartsConfig",
    "PerImageConfig",
    "SaliencyConfig",
    "SlicConfig",
    "VotesConfig",
    "register_groups",
    "restore_config",
]


def register_groups(store: ConfigStore) -> None:
    """Store the schemas that the files of configs/parts/ and configs/parts/foreground/ begin with.

    NAME_schema is the dataclass of the method NAME. The foreground of a method is left open there:
    its file names one, and `parts/foreground=NAME` another.
    """
    for name, kind in METHOD_CONFIGS.items():
        store.store(group="parts", name=f"{name}_schema", node=replace(kind(), foreground=MISSING))
    for name, kind in FOREGROUND_CONFIGS.items():
        store.store(group="parts/foreground", name=f"{name}_schema", node=kind)


def restore_config(values: Mapping[str, Any]) -> PartsConfig:
    """The configuration that `dataclasses.asdict` gave these values, all or some of them, checked.

    The values may come from a file of somebody else: types are checked, nothing is looked up.

    Raises:
        ConfigError: an unknown method or key, a value of another type or out of range.

    Example:
        >>> from dataclasses import asdict
        >>> restore_config(asdict(DatasetConfig(k=16))) == DatasetConfig(k=16)
        True
    """
    try:
        kind = METHOD_CONFIGS[values["method"]]
        foreground = FOREGROUND_CONFIGS[values["foreground"]["method"]]
        if "${" in json.dumps(values):
            raise ConfigError("it holds '${...}', which is not looked up")
        known = OmegaConf.structured(replace(kind(), foreground=foreground()))
        config: Any = OmegaConf.to_object(OmegaConf.merge(known, dict(values)))
        config.check()
    except (KeyError, TypeError, ValueError, OmegaConfBaseException, ConfigError) as error:
        told = " ".join(str(error).split())
        raise ConfigError(
            f"a stored configuration of part discovery cannot be read ({type(error).__name__}: "
            f"{told}); it may be of another version"
        ) from error
    return config
