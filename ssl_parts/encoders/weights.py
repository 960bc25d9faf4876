"""Weights in: find the encoder inside a checkpoint, load it, and account for every tensor."""

import logging
from pathlib import Path

import torch
from torch import nn

from ssl_parts.encoders.candidates import (
    COUNTER,
    Candidate,
    best_candidate,
    count_fitting,
    find_candidates,
    needed_tensors,
    tensor_names,
)
from ssl_parts.encoders.encoder import Encoder
from ssl_parts.encoders.families import head_prefixes
from ssl_parts.encoders.hugging_face import State
from ssl_parts.encoders.inputs import stated_input
from ssl_parts.encoders.read import read_checkpoint
from ssl_parts.encoders.report import LoadReport
from ssl_parts.encoders.sources import Located, locate
from ssl_parts.errors import WeightsError

logger = logging.getLogger(__name__)


def load_weights(
    encoder: Encoder,
    path: str | Path,
    *,
    allow_partial: bool = False,
    truncated: bool = False,
    keep_mean: bool = False,
) -> LoadReport:
    """Load a file into `encoder.model` and report on every tensor.

    Args:
        encoder: changed in place, and only if nothing is wrong.
        path: a file that `read_checkpoint` reads, or a folder that `locate` knows.
        allow_partial: load what fits; the rest keeps its values. Below half of the tensors a
            warning says so.
        truncated: the encoder was cut short on purpose, so deeper blocks in the file are no sign
            of another network.
        keep_mean: leave the encoder's mean and std, whatever the weights say of theirs.

    Raises:
        WeightsError: unreadable file, nothing that fits, another architecture, or partial coverage
            without `allow_partial`. The message counts what matched and what did not, with
            examples.
    """
    report = load_located(
        encoder, locate(Path(path)), path, allow_partial=allow_partial, truncated=truncated
    )
    if report.stated is not None and not keep_mean:
        encoder.set_normalisation(report.stated.mean, report.stated.std)
    return report


def load_located(
    encoder: Encoder,
    located: Located,
    path: str | Path,
    *,
    allow_partial: bool = False,
    truncated: bool = False,
) -> LoadReport:
    """`load_weights` of a located file; the encoder's mean and std stay, what the weights say is
    in the report.
    """
    content = read_checkpoint(located.weights)
    needed = needed_tensors(encoder.model)
    candidates = find_candidates(content, encoder.model)
    if not candidates:
        names = list(tensor_names(content))[:3]
        raise WeightsError(
            f"{path} has no tensor named as in {encoder.name}; it holds {', '.join(names) or 'no tensors'}"
        )
    best = best_candidate(candidates, needed)
    _warn_of_equals(path, best, candidates, needed)
    report = _compare(path, best, needed, encoder.model)
    _verify(report, encoder, allow_partial=allow_partial, truncated=truncated)
    encoder.model.load_state_dict(_loadable(best.state, encoder.model), strict=False)
    report.stated = stated_input(located, best, encoder.name)
    logger.info("%s: %s", path, report.summary())
    if not report.mostly:
        logger.warning(
            "most of %s keeps random values: %s: %s", encoder.name, path, report.summary()
        )
    return report


# ---------------------------------------------------------------- accounting


def _warn_of_equals(
    path: str | Path, best: Candidate, candidates: list[Candidate], needed: State
) -> None:
    """Say that the file holds another network that would have done as well, where its values
    differ.
    """
    count = count_fitting(best.state, needed)
    for other in candidates:
        equal = other.rank == best.rank and other.found != best.found
        if (
            equal
            and count_fitting(other.state, needed) == count
            and _differ(other.state, best.state, needed)
        ):
            logger.warning(
                "%s holds two networks that fit: the one at %s is taken, not the one at %s",
                path,
                best.found,
                other.found,
            )
            return


def _differ(one: State, other: State, needed: State) -> bool:
    shared = [name for name in needed if name in one and name in other]
    return any(not torch.equal(one[name], other[name]) for name in shared)


def _loadable(state: State, model: nn.Module) -> State:
    """All that fits, classifiers and counters included, although a file without them is accepted."""
    own = model.state_dict()
    return {
        name: value
        for name, value in state.items()
        if name in own and own[name].shape == value.shape
    }


def _compare(path: str | Path, candidate: Candidate, needed: State, model: nn.Module) -> LoadReport:
    report = LoadReport(str(path), candidate.found)
    for name, value in needed.items():
        if name not in candidate.state:
            report.missing.append(name)
        elif candidate.state[name].shape != value.shape:
            shapes = f"{tuple(candidate.state[name].shape)} for {tuple(value.shape)}"
            report.mismatched.append(f"{name}: {shapes}")
        else:
            report.matched.append(name)
    own = model.state_dict()
    report.unexpected = [
        name for name in candidate.state if name not in own and not name.endswith(COUNTER)
    ]
    return report


def _verify(report: LoadReport, encoder: Encoder, *, allow_partial: bool, truncated: bool) -> None:
    start = f"{report.path} does not fit {encoder.name}: {report.summary()}"
    if not report.matched:
        raise WeightsError(
            f"{start}. Is encoder.name the network these weights belong to?{_flat_parameters(report)}"
        )
    if allow_partial:
        return
    if report.mismatched:
        raise WeightsError(
            f"{start}. The shapes are another architecture's: choose its encoder.name"
        )
    if report.missing and not report.mostly:
        raise WeightsError(
            f"{start}. Most of the encoder would stay random: choose the network's own encoder.name, or save the "
            f"weights under timm's names{_flat_parameters(report)}"
        )
    if report.missing:
        raise WeightsError(
            f"{start}. Choose the network's own encoder.name, or set encoder.allow_partial=true"
        )
    deeper = _deeper_blocks(report, encoder.model)
    if deeper and not truncated:
        raise WeightsError(_deeper_network(report, encoder, deeper))


def _deeper_network(report: LoadReport, encoder: Encoder, deeper: list[str]) -> str:
    if all(name.endswith("attn.qkv.bias") for name in deeper):
        return (
            f"{report.path} has biases of attention ({deeper[0]}, ...) that {encoder.name} leaves out; give the "
            f"variant that has them, such as encoder.name={encoder.name.split('.')[0]}_qkvb"
        )
    return (
        f"{report.path} belongs to a deeper network than {encoder.name}: it has {', '.join(deeper[:3])} as well. "
        "Choose its encoder.name, or encoder.last_stage to cut it short on purpose, or encoder.allow_partial=true"
    )


def _flat_parameters(report: LoadReport) -> str:
    if not any("_flat_param" in name or "flat_param_" in name for name in report.unexpected):
        return ""
    return ". These are FSDP's flattened parameters: save the full state dict (StateDictType.FULL_STATE_DICT)"


def _deeper_blocks(report: LoadReport, model: nn.Module) -> list[str]:
    """Tensors of the file inside a part of the encoder that it does have: blocks too many, not
    extra heads.
    """
    heads = head_prefixes(model)
    parts = {
        name
        for name, child in model.named_children()
        if isinstance(child, (nn.Sequential, nn.ModuleList))
    }
    return [n for n in report.unexpected if n.split(".")[0] in parts and not n.startswith(heads)]
