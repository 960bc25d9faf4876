"""What weights expect of their input: mean, standard deviation and padding belong to them.

They say it themselves (a run, an export, Hugging Face's preprocessor_config.json, torchvision's
names, timm's `pretrained_cfg`), or the user does. Where both speak and differ, it is refused; what
nobody says can be compared with real images, through the statistics that the first batch-norm
kept.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.models import get_arch_pretrained_cfgs, split_model_name_tag
from torch import Tensor, nn

from ssl_parts.encoders.candidates import Candidate
from ssl_parts.encoders.constructor import create_skeleton
from ssl_parts.encoders.encoder import Encoder
from ssl_parts.encoders.families import as_timm
from ssl_parts.encoders.layouts import TORCHVISION
from ssl_parts.encoders.report import StatedInput
from ssl_parts.encoders.sources import Located
from ssl_parts.errors import ConfigError, WeightsError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Inputs that networks are trained with, as (mean, std) of RGB in [0, 1].
CONVENTIONS = {
    "ImageNet's mean and standard deviation": IMAGENET,
    "inputs scaled to [-1, 1]": ((0.5,) * 3, (0.5,) * 3),
    "inputs in [0, 1]": ((0.0,) * 3, (1.0,) * 3),
    "inputs in [0, 255] less ImageNet's mean": (IMAGENET[0], (1 / 255,) * 3),
    "CLIP's mean and standard deviation": (
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
}
SAME, SYMMETRIC = "same", "symmetric"
# nats of a channel; how many times smaller another convention's must be
SUSPICIOUS, BETTER = 0.25, 4.0
IMAGES_ENOUGH = 4


def stated_input(located: Located, candidate: Candidate, name: str) -> StatedInput | None:
    """What a located file says of its input; None for bare tensors under timm's names."""
    padding = _stated_padding(located)
    if candidate.mean_std is not None:
        mean, std = (tuple(values.tolist()) for values in candidate.mean_std)
        return StatedInput(mean, std, padding, f"{located.weights} itself")
    if located.mean is not None and located.std is not None:
        return StatedInput(
            tuple(located.mean),
            tuple(located.std),
            padding,
            f"the settings beside {located.weights}",
        )
    if candidate.whose == TORCHVISION:
        return StatedInput(*IMAGENET, SYMMETRIC, "torchvision, whose names they have", usual=True)
    return _of_timm_file(name, located.weights)


def pretrained_input(name: str, model: nn.Module) -> StatedInput:
    """What timm's own weights expect of a network that has them."""
    config = as_timm(model).pretrained_cfg
    padding = padding_of(create_skeleton(name, {}))
    return StatedInput(
        tuple(config["mean"]), tuple(config["std"]), padding, "timm's pretrained_cfg"
    )


def padding_of(model: nn.Module) -> str | None:
    """How a network pads strided convolutions; None where it has none that can be padded in two
    ways.
    """
    if any(isinstance(module, Conv2dSame) for module in model.modules()):
        return SAME
    strided = (
        m
        for m in model.modules()
        if isinstance(m, nn.Conv2d) and max(m.stride) > 1 and max(m.kernel_size) > 2
    )
    return (
        SYMMETRIC
        if any(max(conv.padding) > 0 for conv in strided if isinstance(conv.padding, tuple))
        else None
    )


def refuse_other_input(
    stated: StatedInput, encoder: Encoder, mean: Sequence[float] | None, std: Sequence[float] | None
) -> None:
    """ConfigError where the statistics asked for, or the network's padding, are not those that the
    weights state.
    """
    for word, asked, own in (("mean", mean, stated.mean), ("std", std, stated.std)):
        if asked is not None and not stated.usual and not _close(asked, own):
            raise ConfigError(
                f"encoder.{word}={_shown(asked)} but these weights were trained with {word} {_shown(own)} (so "
                f"{stated.source}): leave encoder.mean and encoder.std away (null) and theirs are taken"
            )
    padding = padding_of(encoder.model)
    if stated.padding is not None and padding is not None and padding != stated.padding:
        wanted = "encoder.timm_kwargs.pad_type=" + ("same" if stated.padding == SAME else "null")
        raise ConfigError(
            f"{encoder.name} is built with {padding} padding but these weights were trained with {stated.padding} "
            f"padding (so {stated.source}): say {wanted}"
        )


def suspect_input(encoder: Encoder, images_BCHW: Tensor) -> str | None:
    """One sentence where real images do not look to the first batch-norm as the training images
    did.

    The measure is the Kullback-Leibler divergence, by channel, of a normal distribution with the
    images' mean and variance at the layer's input from one with the statistics that it kept; the
    median over channels. Said is only what another usual convention would explain much better.

    Args:
        encoder: with pretrained weights; its mode is kept.
        images_BCHW: float RGB in [0, 1], at least four images of the data set at its usual size.

    Returns:
        None where nothing is suspected, or where it cannot be known: no batch-norm behind the
        first convolution, or one that still has its initial statistics.
    """
    norm = _first_norm(encoder.model)
    if norm is None or len(images_BCHW) < IMAGES_ENOUGH:
        return None
    own = _divergence(encoder, norm, images_BCHW, encoder.mean.tolist(), encoder.std.tolist())
    if not own > SUSPICIOUS:
        return None
    others = {
        said: _divergence(encoder, norm, images_BCHW, *values)
        for said, values in CONVENTIONS.items()
    }
    said, best = min(others.items(), key=lambda item: item[1])
    if not best * BETTER < own:
        return None
    mean, std = (_shown(values) for values in CONVENTIONS[said])
    return (
        f"the weights of {encoder.name} seem to expect {said}: the statistics of its first batch-norm differ from these "
        f"images' by {own:.2g} nats a channel with encoder.mean={_shown(encoder.mean.tolist())}, "
        f"by {best:.2g} with encoder.mean={mean} encoder.std={std}"
    )


class _SeenEnough(Exception):  # noqa: N818
    """Ends a forward pass whose rest is not needed."""


def _first_norm(model: nn.Module) -> nn.BatchNorm2d | None:
    """The batch-norm behind the first convolution, where training has changed its statistics."""
    modules = list(model.modules())
    first = next(
        (i for i, module in enumerate(modules) if isinstance(module, nn.Conv2d)), len(modules)
    )
    norm = next((m for m in modules[first : first + 6] if isinstance(m, nn.BatchNorm2d)), None)
    if norm is None or norm.running_mean is None or norm.running_var is None:
        return None
    return (
        None
        if bool((norm.running_mean == 0).all()) and bool((norm.running_var == 1).all())
        else norm
    )


@torch.no_grad()
def _divergence(
    encoder: Encoder,
    norm: nn.BatchNorm2d,
    images_BCHW: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
) -> float:
    """Median over channels of KL(images || kept), in nats, at the input of `norm`."""
    seen: list[Tensor] = []
    mode = encoder.training

    def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].float())
        raise _SeenEnough

    handle = norm.register_forward_pre_hook(stop)
    try:
        mean_311, std_311 = (
            images_BCHW.new_tensor(list(values)).view(3, 1, 1) for values in (mean, std)
        )
        as_timm(encoder.eval().model).forward_features((images_BCHW - mean_311) / std_311)
    except _SeenEnough:
        pass
    finally:
        handle.remove()
        encoder.train(mode)
    kept_mean_D, kept_var_D = norm.running_mean, norm.running_var
    if not seen or kept_mean_D is None or kept_var_D is None:
        return 0.0
    # channels that training switched off say nothing
    alive_D = kept_var_D > 1e-6 * kept_var_D.max()
    mean_D, var_D = seen[0].mean((0, 2, 3))[alive_D], seen[0].var((0, 2, 3))[alive_D]
    ratio_D = var_D.clamp(min=1e-12) / kept_var_D[alive_D]
    shift_D = (mean_D - kept_mean_D[alive_D]) ** 2 / kept_var_D[alive_D]
    return float(((ratio_D + shift_D - 1 - ratio_D.log()) / 2).median())


# ---------------------------------------------------------------- who says what


def _stated_padding(located: Located) -> str | None:
    """The padding of the network that a run or an export describes."""
    if located.architecture is not None:
        return padding_of(create_skeleton(located.architecture, located.model_args))
    settings = located.settings or {}
    name, args = settings.get("name"), settings.get("timm_kwargs")
    if not isinstance(name, str) or not isinstance(args, dict):
        return None
    given = {"pad_type": args["pad_type"]} if args.get("pad_type") else {}
    return padding_of(create_skeleton(name, given))


def _of_timm_file(name: str, path: Path) -> StatedInput | None:
    """timm's description of a file that has the name under which timm publishes it."""
    base, _ = split_model_name_tag(name)
    for tag, config in get_arch_pretrained_cfgs(base).items():
        if config.url and str(config.url).rpartition("/")[2] == path.name:
            padding = padding_of(create_skeleton(base, {}))
            return StatedInput(
                tuple(config.mean), tuple(config.std), padding, f"timm of its file for {tag}"
            )
    return None


def _close(asked: Sequence[float], own: Sequence[float]) -> bool:
    return len(asked) == len(own) and all(
        abs(a - b) < 1e-3 * max(1.0, abs(b)) for a, b in zip(asked, own)
    )


def _shown(values: Sequence[Any]) -> str:
    return "[" + ",".join(f"{value:.3g}" for value in values) + "]"


def refuse_weights_of_another(name: str, located: Located) -> None:
    """WeightsError where a run or an export says that its weights are another network's."""
    own = located.architecture or (located.settings or {}).get("name")
    if isinstance(own, str) and split_model_name_tag(own)[0] != split_model_name_tag(name)[0]:
        raise WeightsError(
            f"{located.weights} holds {own}, but encoder.name={name}: leave encoder= away, and the weights' own network "
            "is taken"
        )
