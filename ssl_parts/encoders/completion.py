"""The configuration of an encoder, completed by what its weights know."""

from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from timm.models import is_model, split_model_name_tag

from ssl_parts.encoders.build import architecture_args, build_encoder
from ssl_parts.encoders.candidates import best_candidate, find_candidates, needed_tensors
from ssl_parts.encoders.config import PRETRAINED, BareFile, EncoderConfig
from ssl_parts.encoders.constructor import check_arguments, check_name, create_skeleton
from ssl_parts.encoders.documents import has_interpolation
from ssl_parts.encoders.encoder import Encoder
from ssl_parts.encoders.inputs import stated_input
from ssl_parts.encoders.pickles import Inert
from ssl_parts.encoders.read import read_checkpoint
from ssl_parts.encoders.sources import Located, expand_path, locate
from ssl_parts.errors import ConfigError, WeightsError

NETWORK = ("name", "small", "width")  # another value of these is another network
# may be changed for weights that know theirs
KEPT = ("mean", "std", "output_stride", "last_stage")


def make_encoder(config: EncoderConfig) -> Encoder:
    """The configured encoder, with its weights.

    Raises:
        ConfigError, WeightsError: as `complete_config` and `build_encoder`.
    """
    config = complete_config(config)
    check_network(config)
    return build_encoder(
        str(config.name),
        config.weights,
        mean=config.mean,
        std=config.std,
        small=config.small,
        width=config.width,
        last_stage=config.last_stage,
        allow_partial=config.allow_partial,
        **config.arguments(),
    )


def check_network(config: EncoderConfig) -> None:
    """Raise ConfigError unless timm knows the name and its constructor takes the arguments.

    Call it before anything is built: arguments of files from elsewhere are an allow-list.
    """
    config.check()
    check_name(config.name)
    check_arguments(str(config.name), config.arguments())


def complete_config(config: EncoderConfig, asked: Collection[str] | None = None) -> EncoderConfig:
    """The configuration with name, shape and input as the weights know them.

    A run, an export, timm's snapshots and checkpoints of training scripts that keep the name of
    their network know it. Of a file that does not, `bare_file` says what input it expects.

    Args:
        config: what is configured; it is left as it is.
        asked: keys of `EncoderConfig` that the user gave, where a recipe's own values are to give
            way to the weights: "name", "small" and "width" for encoder=FILE, KEY for encoder.KEY=,
            "timm_kwargs.KEY" for encoder.timm_kwargs.KEY=. None: all that differ from the default.

    Raises:
        ConfigError: a network was asked for that is not the weights' own.
        WeightsError: weights that are not there, or settings beside them that cannot be read.
    """
    if config.weights is None or config.weights == PRETRAINED:
        return config
    located = locate(expand_path(config.weights))
    own = _own_config(located, config)
    if own is None:
        return _with_bare_input(config, located)
    given = _given_keys(config, asked)
    _refuse_another(config, own, given)
    kept = {key: getattr(config, key) for key in given if key in KEPT}
    args = {
        key: value for key, value in config.timm_kwargs.items() if f"timm_kwargs.{key}" in given
    }
    kept |= {"timm_kwargs": own.timm_kwargs | args, "allow_partial": config.allow_partial}
    return replace(own, **kept, weights=config.weights, bare_file=BareFile())


def _given_keys(config: EncoderConfig, asked: Collection[str] | None) -> set[str]:
    default = EncoderConfig()
    keys = {f.name for f in fields(config) if getattr(config, f.name) != getattr(default, f.name)}
    keys |= {f"timm_kwargs.{key}" for key in config.timm_kwargs}
    if asked is not None:
        return set(asked)
    return keys | (set(NETWORK) if "name" in keys else set())


def config_of_settings(settings: dict[str, Any], where: str) -> EncoderConfig:
    """The `encoder:` node of a run's config.yaml, whoever wrote it; its weights are left out.

    Raises:
        WeightsError: unknown keys, values of another type, or texts that ask for an environment
            variable or a file.
    """
    known = {field.name for field in fields(EncoderConfig)}
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise WeightsError(
            f"{where}: encoder.{unknown[0]} is unknown to this version, which reads {', '.join(known)}"
        )
    if has_interpolation(settings):
        raise WeightsError(
            f"{where}: its encoder holds '${{...}}', which is not looked up in files of others"
        )
    try:
        merged = OmegaConf.merge(OmegaConf.structured(EncoderConfig), settings | {"weights": None})
        config = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise WeightsError(f"{where}: its encoder cannot be read: {said}") from error
    assert isinstance(config, EncoderConfig)
    return config


def _own_config(located: Located, config: EncoderConfig) -> EncoderConfig | None:
    """What the weights know of their network; None for bare ones."""
    own = described_network(located)
    if own is not None or config.name is not None:
        return own
    return _config_of_script(read_checkpoint(located.weights))


def described_network(located: Located) -> EncoderConfig | None:
    """The network that a run or an export describes, its weights left out; None for bare weights.

    Raises:
        WeightsError: settings that cannot be read.
    """
    if located.architecture is not None:
        args = dict(located.model_args)
        stride = args.pop("output_stride", None)
        return EncoderConfig(name=located.architecture, output_stride=stride, timm_kwargs=args)
    if located.settings is None:
        return None
    own = config_of_settings(located.settings, f"{located.run}/config.yaml")
    return None if own.name is None else replace(own, bare_file=BareFile())


def _config_of_script(content: dict[str, Any]) -> EncoderConfig | None:
    """The network that a training script (timm's, torch's example) named in its checkpoint."""
    args = content.get("args")
    options = args.state if isinstance(args, Inert) and isinstance(args.state, dict) else {}
    for name in (content.get("arch"), options.get("model"), options.get("arch")):
        if isinstance(name, str) and is_model(split_model_name_tag(name)[0]):
            return EncoderConfig(name=name)
    return None


def _with_bare_input(config: EncoderConfig, located: Located) -> EncoderConfig:
    """The configuration with `bare_file` in place of what neither the user nor the weights say."""
    bare, taken = config.bare_file, replace(config, bare_file=BareFile())
    if bare == BareFile() or _says_its_input(config, located):
        return taken
    if config.mean is None and config.std is None:
        taken = replace(taken, mean=bare.mean, std=bare.std)
    if bare.pad_type is not None and "pad_type" not in config.timm_kwargs:
        taken = replace(taken, timm_kwargs=config.timm_kwargs | {"pad_type": bare.pad_type})
    return taken


def _says_its_input(config: EncoderConfig, located: Located) -> bool:
    check_name(config.name)
    name = str(config.name)
    skeleton = create_skeleton(name, {})
    candidates = find_candidates(read_checkpoint(located.weights), skeleton)
    if not candidates:
        return False
    return (
        stated_input(located, best_candidate(candidates, needed_tensors(skeleton)), name)
        is not None
    )


def _refuse_another(config: EncoderConfig, own: EncoderConfig, given: Collection[str]) -> None:
    """ConfigError where the network that was asked for is not the one of the weights."""
    asked = [key for key in NETWORK if key in given]
    if not asked:
        return
    if "name" in asked and config.name is not None:
        check_name(config.name)
    named = replace(config, name=config.name if "name" in asked and config.name else own.name)
    if _same_base(named, own) and (asked == ["name"] or _same_shapes(named, own)):
        return
    values = " ".join(f"encoder.{key}={getattr(named, key)}" for key in asked)
    raise ConfigError(
        f"encoder.weights={config.weights} holds {_described(own)}, but {values} was asked for: leave encoder= and "
        "these keys away, and the weights' own network is taken"
    )


def _same_base(config: EncoderConfig, own: EncoderConfig) -> bool:
    return split_model_name_tag(str(config.name))[0] == split_model_name_tag(str(own.name))[0]


def _same_shapes(config: EncoderConfig, own: EncoderConfig) -> bool:
    """Whether one network is the other, or the other cut short; positions may be of another grid."""
    first, second = _shapes(config), _shapes(own)
    shared = first.keys() & second.keys()
    nested = shared in (first.keys(), second.keys())
    return nested and all(first[name] == second[name] for name in shared if name != "pos_embed")


def _shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    name = str(config.name)
    options = {"small": config.small, "width": config.width, "last_stage": config.last_stage}
    args = architecture_args(name, config.arguments(), **options)
    return {
        key: tuple(value.shape)
        for key, value in needed_tensors(create_skeleton(name, args)).items()
    }


def _described(config: EncoderConfig) -> str:
    parts = [str(config.name)]
    parts += ["small"] if config.small else []
    parts += [f"width {config.width}"] if config.width != 1.0 else []
    parts += [f"up to {config.last_stage}"] if config.last_stage else []
    parts += [f"{key}={value}" for key, value in config.timm_kwargs.items()]
    return ", ".join(parts)
