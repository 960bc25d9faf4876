"""Which recipe a run's configuration is closest to, and where it differs."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from ssl_parts.configuration.compose import CONFIGS, flatten
from ssl_parts.errors import ConfigError
from ssl_parts.recipes.load import compose_recipe

NOT_TOLD = ("run.name", "run.dir")  # differ in every run and change nothing


def differences_from_recipe(config: Mapping[str, Any]) -> tuple[str, list[tuple[str, str, str]]]:
    """(recipe, [(key, the recipe's value, this run's value)]) for the recipe of configs/ with the
    fewest differences.

    Raises:
        ConfigError: configs/ holds no recipe that can be composed, as in an installation without
            the repository.
    """
    recipes = sorted(path.stem for path in (CONFIGS / "pretrain").glob("*.yaml"))
    compared = {
        recipe: found for recipe in recipes if (found := _differences(recipe, config)) is not None
    }
    if not compared:
        raise ConfigError(f"no recipe in {CONFIGS} to compare with")
    nearest = min(compared, key=lambda recipe: len(compared[recipe]))
    return nearest, compared[nearest]


def _differences(recipe: str, config: Mapping[str, Any]) -> list[tuple[str, str, str]] | None:
    """Keys with another value than the recipe's; None for a recipe that does not compose on its
    own.
    """
    theirs, ours = _values(recipe), flatten(dict(config))
    if theirs is None:
        return None
    keys = [key for key in ours if key not in NOT_TOLD and ours[key] != theirs.get(key)]
    return [(key, shown(theirs.get(key)), shown(ours[key])) for key in keys]


@cache
def _values(recipe: str) -> dict[str, Any] | None:
    try:
        return flatten(compose_recipe(recipe, []))
    except ConfigError:
        return None


def shown(value: Any) -> str:
    """A value as one would type it on the command line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
