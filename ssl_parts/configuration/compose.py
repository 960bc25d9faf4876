"""From a recipe and key=value words to a checked configuration: the one composer of all commands.

A recipe is a file configs/COMMAND/NAME.yaml. Hydra composes it from the groups that it names
(data, encoder, parts, ...), with the groups chosen on the command line; the other key=value words
are then set by the type that the schema gives their key. So a text is taken as the shell passed it,
whatever characters it has, and only numbers, lists and mappings are read as YAML.

Imports no torch.
"""

import difflib
import logging
import re
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import AnyNode, DictConfig, EnumNode, ListConfig, OmegaConf, StringNode
from omegaconf.errors import OmegaConfBaseException

from ssl_parts.configuration.moved import MOVED, RENAMED
from ssl_parts.configuration.suggest import did_you_mean
from ssl_parts.errors import ConfigError

log = logging.getLogger(__name__)
PACKAGE = Path(__file__).resolve().parents[1]
# beside this package in a checkout, inside it where it is installed
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
# `${times:${data.size},0.75}` in a recipe: a size that follows another, rounded down
OmegaConf.register_new_resolver("times", lambda size, factor: int(size * factor), replace=True)


class Schema(Protocol):
    """A dataclass of sections that validates itself."""

    def check(self) -> None:
        """Raise ConfigError for the first value that cannot work."""


T = TypeVar("T", bound=Schema)
Register = Callable[[ConfigStore], None]  # stores the schemas of groups


def compose_config(
    schema: type[T],
    command: str,
    recipe: str,
    words: Sequence[str] = (),
    register: Register | None = None,
    configs: Path = CONFIGS,
) -> T:
    """Compose a recipe with changes; nothing is checked yet but names and types.

    Args:
        schema: the dataclass that the command reads.
        command: the folder of `configs` with its recipes.
        recipe: a file there, without .yaml.
        words: changes, as "data=cub", "data.root=DIR", "train.lr=1e-3"; a group that stands
            elsewhere than its name says as "parts@protocol.parts=dataset".
        register: stores the schemas that groups refer to.

    Raises:
        ConfigError: an unknown recipe, group, option or key, with the nearest known one; a value
            of the wrong type.
    """
    check_recipe(command, recipe, configs)
    check_words(command, words, configs)
    store = ConfigStore.instance()
    store.store(name=f"{command}_schema", node=schema)
    if register is not None:
        register(store)
    chosen, changes = split_words(words, configs)
    try:
        with initialize_config_dir(str(configs), version_base="1.3"):
            composed = compose(f"{command}/{recipe}", overrides=chosen)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_in_one_line(error, " ".join(chosen) or recipe)) from error
    for key, text in changes:
        set_key(composed, key, text, _groups(configs))
    return _to_object(composed)


def load_config(
    schema: type[T],
    command: str,
    recipe: str,
    words: Sequence[str] = (),
    register: Register | None = None,
    configs: Path = CONFIGS,
) -> T:
    """`compose_config`, then the schema's own check.

    Raises:
        ConfigError: as `compose_config`, or a value out of range.
    """
    config = compose_config(schema, command, recipe, words, register, configs)
    config.check()
    return config


def compose_words(schema: type[T], words: Sequence[str]) -> T:
    """A configuration without recipes or groups, from its keys alone; nothing is checked yet.

    Raises:
        ConfigError: an unknown key, with the nearest known one; a value of the wrong type.
    """
    config = OmegaConf.structured(schema)
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not key=value; the keys are {', '.join(config)}")
        set_key(config, key, text)
    return _to_object(config)


def check_recipe(command: str, recipe: str, configs: Path = CONFIGS) -> None:
    """Raise ConfigError unless `recipe` is one of `command`, saying whose it is or what is near."""
    if (configs / command / f"{recipe}.yaml").is_file():
        return
    others = sorted(path.parent.name for path in configs.glob(f"*/{recipe}.yaml"))
    owners = [name for name in others if name in RECIPE_FOLDERS]
    if owners:
        raise ConfigError(f"{recipe!r} is a recipe of {owners[0]}, not of {command}")
    known = sorted(path.stem for path in (configs / command).glob("*.yaml"))
    raise ConfigError(
        f"{command} has no recipe {recipe!r}{did_you_mean(recipe, known)}; there are: "
        f"{', '.join(known)} (in {configs / command})"
    )


def check_words(command: str, words: Sequence[str], configs: Path = CONFIGS) -> None:
    """Raise ConfigError for a word that is not key=value, naming the recipe that it may mean."""
    recipes = [path.stem for path in (configs / command).glob("*.yaml")]
    for word in words:
        if "=" not in word or word.startswith("="):
            meant = difflib.get_close_matches(word, recipes, n=1)
            near = (
                f", did you mean --config-name {meant[0]}?" if meant else ", such as data.root=DIR"
            )
            raise ConfigError(f"{word!r} is not key=value{near}")


SCHEMA = "_schema.yaml"  # end of the names under which schemas of groups are stored
RECIPE_FOLDERS = ("pretrain", "finetune", "discover", "evaluate")


def split_words(
    words: Sequence[str], configs: Path = CONFIGS
) -> tuple[list[str], list[tuple[str, str]]]:
    """Group choices in Hydra's form, and the other changes as (key, text), each in its order.

    Raises:
        ConfigError: an option that a group does not have, a deletion.
    """
    groups = _groups(configs)
    chosen: list[str] = []
    changes: list[tuple[str, str]] = []
    for word in words:
        key, _, text = word.partition("=")
        key = key.lstrip("+")
        if key.startswith("~"):
            raise ConfigError(f"{word!r}: keys cannot be removed; give the value null instead")
        group = key.partition("@")[0]
        if group in groups:
            _check_option(group, text, groups[group])
            chosen.append(f"{key}={text}")
        else:
            changes.append((key, text))
    return chosen, changes


def _check_option(group: str, option: str, options: list[str]) -> None:
    if option not in options:
        near = did_you_mean(option, options)
        raise ConfigError(
            f"{group}={option}: no such file in configs/{group}{near}; there are: "
            f"{', '.join(options)}"
        )


def _groups(configs: Path) -> dict[str, list[str]]:
    """Group -> its options, from the folders of `configs` that hold no recipes."""
    found: dict[str, list[str]] = {}
    for path in sorted(configs.glob("**/*.yaml")):
        name = path.parent.relative_to(configs).as_posix()
        if name != "." and name not in RECIPE_FOLDERS:
            found.setdefault(name, []).append(path.stem)
    return found


def set_key(config: DictConfig, key: str, text: str, groups: Sequence[str] | dict = ()) -> None:
    """Set one key of a composed configuration from the text after its "="; an earlier version's name
    for it is understood, and said.

    Raises:
        ConfigError: an unknown key, with the nearest known one or the name that it has now; a
            value of the wrong type.
    """
    parent_key, _, leaf = key.rpartition(".")
    parent = _select(config, parent_key)
    if key in RENAMED and not (isinstance(parent, DictConfig) and leaf in parent):
        log.warning("%s is now called %s", key, " and ".join(RENAMED[key]))
        for name in RENAMED[key]:
            set_key(config, name, text, groups)
        return
    free = isinstance(parent, DictConfig) and OmegaConf.get_type(parent) is dict
    if not isinstance(parent, DictConfig) or (not free and leaf not in parent):
        raise ConfigError(explain_unknown(key, text, [*flatten(config), *groups]))
    node = None if free and leaf not in parent else parent._get_node(leaf)
    if isinstance(node, DictConfig) and not _is_free(node):
        below = [name for name in flatten(node)]
        raise ConfigError(f"{key}={text}: {key} is a section; its keys are {', '.join(below)}")
    try:
        OmegaConf.update(config, key, parse_value(text, node), force_add=free)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(_in_one_line(error, f"{key}={text}")) from error


def explain_unknown(key: str, text: str, known: Sequence[str]) -> str:
    """The sentence for a key that does not exist."""
    if key in MOVED:
        return f"{key!r} in {f'{key}={text}'!r}: {MOVED[key]}"
    owners = owners_of(key)
    if owners:
        return f"{key!r} in {f'{key}={text}'!r} is a key of {' and '.join(owners)}; choose it first"
    near = did_you_mean(key, known)
    return f"unknown key {key!r} in {f'{key}={text}'!r}{near}; --show-config prints all keys"


def owners_of(key: str) -> list[str]:
    """The choices of groups whose schema has this key, as "parts=dataset"."""
    store, names, found = ConfigStore.instance(), key.split("."), []
    for cut in range(1, len(names)):
        group, rest = "/".join(names[:cut]), ".".join(names[cut:])
        try:
            schemas = [name for name in store.list(group) if name.endswith(SCHEMA)]
        except OSError:  # no group of that name
            continue
        for name in schemas:
            if rest in flatten(store.load(f"{group}/{name}").node):
                found.append(f"{group}={name.removesuffix(SCHEMA)}")
    return found


def parse_value(text: str, node: Any) -> Any:
    """The value that a text stands for under a key whose node is of a known type.

    A text stays as it is (`~/` at its start is the home folder, `null` is none); anything else is
    read as YAML, lists of texts without turning their items into numbers; a single value under a
    key that takes a list is a list of one.

    Raises:
        ConfigError: an interpolation, which only recipes may hold.
    """
    if "${" in text:
        raise ConfigError(f"{text!r}: ${{...}} can be used in recipes, not on the command line")
    if text == "null":
        return None
    if isinstance(node, StringNode):
        return expand_home(text) if text == "~" or text.startswith("~/") else text
    if isinstance(node, EnumNode):
        return text
    texts = isinstance(node, ListConfig) and node._metadata.element_type is str
    value = yaml.load(text, Loader=yaml.BaseLoader if texts else yaml.SafeLoader)  # noqa: S506 (both are safe)
    if isinstance(node, ListConfig) and not isinstance(value, list | dict | None):
        return [value]
    return _numbers(value) if isinstance(node, AnyNode | None) else value


def expand_home(text: str) -> str:
    """A path with `~` as the home folder; ConfigError for a user who has none."""
    try:
        return str(Path(text).expanduser())
    except RuntimeError as error:
        raise ConfigError(
            f"{text!r}: this user has no home folder (HOME is not set); write the whole path"
        ) from error


def _numbers(value: Any) -> Any:
    """YAML 1.1 takes 1e-3 for a text; free values take it for the number that it is."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _select(config: DictConfig, key: str) -> Any:
    """The node under a dotted key; None where there is none or it is a value."""
    node: Any = config
    for name in key.split(".") if key else []:
        if not isinstance(node, DictConfig) or name not in node:
            return None
        node = node._get_node(name)
    return node


def _is_free(node: DictConfig) -> bool:
    return OmegaConf.get_type(node) is dict


def _to_object(composed: DictConfig) -> Any:
    try:
        return OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError(_in_one_line(error, "the recipe")) from error


def _in_one_line(error: Exception, where: str) -> str:
    """What Hydra or OmegaConf found wrong, as one sentence."""
    lines = [line.strip() for line in str(error.__cause__ or error).strip().splitlines()]
    return f"{where}: {' '.join(line for line in lines[:2] if line)}"


def to_yaml(config: Any) -> str:
    """A configuration as YAML, enums by name."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"train.lr": 0.1, ...}: enums by name, lists whole."""
    if not isinstance(config, DictConfig | dict):
        config = OmegaConf.structured(config)
    if isinstance(config, DictConfig):
        config = OmegaConf.to_container(config, enum_to_str=True, resolve=True)
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        value = value.name if isinstance(value, Enum) else value
        flat.update(
            flatten(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
        )
    return flat
