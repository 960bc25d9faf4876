"""Weights in: find the encoder inside a checkpoint, load it, and account for every tensor.

A checkpoint nests and prefixes its networks as its project pleased ("module.encoder_q.",
"teacher.backbone.", ...). The prefix is not guessed from a list: every name that ends in a name of
the encoder votes for what stands before it, and the candidate that covers most of the encoder,
name and shape, is taken.
"""

import contextlib
import io
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from ssl_parts.encoders.families import head_prefixes
from ssl_parts.encoders.layouts import NameLayout, fitted, layouts_for, tidy
from ssl_parts.encoders.read import read_checkpoint
from ssl_parts.encoders.sources import locate
from ssl_parts.errors import WeightsError

logger = logging.getLogger(__name__)

State = dict[str, Tensor]

# batch-norm's count of steps: loaded where it is there, never asked for
COUNTER = "num_batches_tracked"

# Where a checkpoint holds several copies of the encoder: the averaged teacher of self-distillation
# first, as its authors evaluate it; the momentum copies of contrastive methods last, as theirs do
# not.
AVERAGES = ("ema", "state_dict_ema", "model_ema")
TARGETS = ("encoder_k", "target", "target_encoder", "target_network", "target_backbone")
WRAPPERS = (
    *(
        "module",
        "_orig_mod",
        "model",
        "backbone",
        "encoder",
        "network",
        "net",
        "trunk",
        "teacher",
        "student",
    ),
    *(
        "online_network",
        "online_backbone",
        "base_encoder",
        "encoder_q",
        "vision_encoder",
        "_fsdp_wrapped_module",
    ),
)


@dataclass
class LoadReport:
    """What happened to each tensor. `summary()` is one line for a log, with examples."""

    path: str
    found: str  # where in the file: nested keys and prefix
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # tensors of the encoder that the file lacks
    # tensors of the file without a place, classifiers included
    unexpected: list[str] = field(default_factory=list)
    # "name: (file's shape) for (encoder's shape)"
    mismatched: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of tensors the encoder needs."""
        return len(self.matched) + len(self.missing) + len(self.mismatched)

    def summary(self) -> str:
        """Counts, and up to three examples of each kind of trouble."""
        parts = [f"{len(self.matched)} of {self.total} encoder tensors matched (at {self.found})"]
        for kind in ("missing", "mismatched", "unexpected"):
            names = getattr(self, kind)
            if names:
                shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                parts.append(f"{len(names)} {kind} ({shown})")
        return "; ".join(parts)


@dataclass(frozen=True)
class _Candidate:
    found: str
    state: State  # names as in the encoder's network, as far as they have one
    mean_std: tuple[Tensor, Tensor] | None
    rank: int


def load_weights(
    encoder: nn.Module,
    path: Path,
    *,
    allow_partial: bool = False,
    truncated: bool = False,
    keep_mean: bool = False,
) -> LoadReport:
    """Load a file into `encoder.model` and report on every tensor.

    Args:
        encoder: an `Encoder`; changed in place, and only if nothing is wrong.
        path: a .pth, .pt, .bin, .tar, .safetensors or .npz file, or a folder that `locate` knows.
        allow_partial: load what fits; the rest keeps its values.
        truncated: the encoder was cut short on purpose, so deeper blocks in the file are no sign
            of another network.
        keep_mean: do not take over the mean and std that our own checkpoints carry.

    Raises:
        WeightsError: unreadable file, nothing that fits, another architecture, or partial coverage
            without `allow_partial`. The message counts what matched and what did not, with
            examples.
    """
    located = locate(path)
    content = read_checkpoint(located.weights)
    needed = _needed(encoder.model)
    candidates = list(_candidates(content, encoder.model, needed))
    if not candidates:
        names = list(_tensor_names(content))[:3]
        raise WeightsError(
            f"{path} has no tensor named as in {encoder.name}; it holds {', '.join(names) or 'no tensors'}"
        )
    best = max(candidates, key=lambda c: (_coverage(c.state, needed), -c.rank))
    report = _compare(path, best, needed, encoder.model)
    _verify(report, encoder, allow_partial=allow_partial, truncated=truncated)
    encoder.model.load_state_dict(_loadable(best.state, encoder.model), strict=False)
    if best.mean_std is not None and not keep_mean:
        encoder.set_normalisation(*(values.tolist() for values in best.mean_std))
    elif located.mean and located.std and not keep_mean:
        encoder.set_normalisation(located.mean, located.std)
    logger.info("%s: %s", path, report.summary())
    return report


# ---------------------------------------------------------------- candidates


def _candidates(content: dict, model: nn.Module, needed: State) -> Iterator[_Candidate]:
    for where, raw in _flat_dicts(content):
        state = {tidy(name, model): value for name, value in raw.items()}
        for layout in layouts_for(model):
            for prefix in _prefixes(state, needed, layout):
                rank = _rank([*where, *prefix.split(".")])
                found = ".".join([*where, prefix.rstrip(".")]).strip(".") or "top level"
                found += "" if layout.whose == "timm" else f", {layout.whose} names"
                inner = _translated(state, prefix, layout, needed)
                yield _Candidate(found, inner, _mean_std(state, prefix), rank)
                converted = _family_filter(inner, model) if layout.whose == "timm" else None
                if converted is not None:
                    yield _Candidate(found, converted, _mean_std(state, prefix), rank + 1)


def _flat_dicts(
    content: dict, where: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], State]]:
    """Every dictionary in the file that holds tensors under strings, with the keys that lead
    there.
    """
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if tensors:
        yield where, tensors
    modules = _haiku_modules(content)
    if modules:
        yield where, modules
    for key, value in content.items():
        if isinstance(value, dict) and len(where) < 6 and "/" not in str(key):
            yield from _flat_dicts(value, (*where, str(key)))


def _haiku_modules(content: dict) -> State:
    """haiku keeps {"res_net50/~/initial_conv": {"w": tensor}}: one dictionary of all, "module.w"
    by name.
    """
    found: State = {}
    for key, value in content.items():
        if isinstance(value, dict) and "/" in str(key):
            found |= {
                f"{key}.{leaf}": tensor
                for leaf, tensor in value.items()
                if isinstance(tensor, Tensor)
            }
    return found


def _prefixes(state: State, needed: State, layout: NameLayout) -> list[str]:
    """What stands before the encoder's names in this dictionary: the prefixes with most votes, and
    wrappers' names.
    """
    votes: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for start in range(len(parts)):
            if layout.native(".".join(parts[start:])) in needed:
                votes[".".join(parts[:start]) + "." if start else ""] += 1
    voted = [prefix for prefix, _ in votes.most_common(4)]
    # Names that only timm's own conversion knows cannot vote.
    return voted if layout.whose != "timm" else list(dict.fromkeys([*voted, *_wrappers(state), ""]))


def _wrappers(state: State) -> list[str]:
    """Leading words that wrap networks ("module.backbone."), as they occur in this dictionary."""
    found: dict[str, None] = {}
    for name in state:
        prefix = ""
        for word in name.split(".")[:-1]:
            if word not in WRAPPERS:
                break
            prefix += word + "."
        found[prefix] = None
    return list(found)[:6]


def _translated(state: State, prefix: str, layout: NameLayout, needed: State) -> State:
    inner: State = {}
    for name, value in state.items():
        if name.startswith(prefix):
            own = layout.native(name.removeprefix(prefix)) or name.removeprefix(prefix)
            inner[own] = (
                fitted(value, needed[own].shape)
                if own in needed and layout.whose != "timm"
                else value
            )
    return inner


def _rank(words: list[str]) -> int:
    if any("teacher" in word or word in AVERAGES for word in words):
        return 0
    return 4 if any("momentum" in word or word in TARGETS for word in words) else 2


def _mean_std(state: State, prefix: str) -> tuple[Tensor, Tensor] | None:
    """The input statistics of one of our own encoders, which keeps its network under "model."."""
    owner = prefix.removesuffix("model.")
    mean, std = state.get(f"{owner}mean"), state.get(f"{owner}std")
    if (
        not prefix.endswith("model.")
        or mean is None
        or std is None
        or mean.shape != (3,)
        or std.shape != (3,)
    ):
        return None
    return mean, std


def _family_filter(state: State, model: nn.Module) -> State | None:
    """timm's own conversion for this family: original names to timm's, positional embeddings to
    another grid.
    """
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return None
    patches = state.get("patch_embed.proj.weight")
    try:
        # timm's filter for Eva prints what it tries
        with contextlib.redirect_stdout(io.StringIO()):
            converted = dict(convert(dict(state), model))
    except (
        KeyError,
        IndexError,
        AttributeError,
        RuntimeError,
        ValueError,
        TypeError,
        AssertionError,
    ):
        return None  # the filter is for checkpoints of another kind
    if patches is not None and patches.ndim == 4:
        # timm would resize another patch size in silence
        converted["patch_embed.proj.weight"] = patches
    return converted


# ---------------------------------------------------------------- accounting


def _needed(model: nn.Module) -> State:
    """The tensors a file must cover: all but classifiers and batch-norm's step counters."""
    heads = head_prefixes(model)
    return {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith(heads) and not name.endswith(COUNTER)
    }


def _coverage(state: State, needed: State) -> int:
    return sum(name in state and state[name].shape == value.shape for name, value in needed.items())


def _loadable(state: State, model: nn.Module) -> State:
    """All that fits, classifiers and counters included, although a file without them is accepted."""
    own = model.state_dict()
    return {
        name: value
        for name, value in state.items()
        if name in own and own[name].shape == value.shape
    }


def _compare(path: Path, candidate: _Candidate, needed: State, model: nn.Module) -> LoadReport:
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


def _verify(
    report: LoadReport, encoder: nn.Module, *, allow_partial: bool, truncated: bool
) -> None:
    start = f"{report.path} does not fit {encoder.name}: {report.summary()}"
    if not report.matched:
        raise WeightsError(f"{start}. Is encoder.name the network these weights belong to?")
    if allow_partial:
        return
    if report.mismatched:
        raise WeightsError(
            f"{start}. The shapes are another architecture's: choose its encoder.name"
        )
    if report.missing:
        raise WeightsError(
            f"{start}. Choose the network's own encoder.name, or set encoder.allow_partial=true"
        )
    deeper = _deeper_blocks(report, encoder.model)
    if deeper and not truncated:
        raise WeightsError(
            f"{report.path} belongs to a deeper network than {encoder.name}: it has {', '.join(deeper[:3])} as well. "
            "Choose its encoder.name, or encoder.last_stage to cut it short on purpose, or encoder.allow_partial=true"
        )


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


def _tensor_names(content: dict) -> Iterator[str]:
    for _, state in _flat_dicts(content):
        yield from state
