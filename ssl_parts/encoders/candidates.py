"""Find an encoder inside a checkpoint.

A checkpoint nests and prefixes its networks as its project pleased ("module.encoder_q.",
"teacher.backbone.", ...). The prefix is not guessed from a list: every name that ends in a name of
the encoder votes for what stands before it. Optimiser state, random states and gradients are no
candidates, whatever their names.
"""

import contextlib
import io
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssl_parts.encoders.families import head_prefixes
from ssl_parts.encoders.hugging_face import State, join
from ssl_parts.encoders.layouts import HUGGING_FACE, NameLayout, fitted, layouts_for, tidy_names
from ssl_parts.encoders.pickles import Inert
from ssl_parts.encoders.read import module_state

# batch-norm's count of steps: loaded where it is there, never asked for
COUNTER = "num_batches_tracked"
DEPTH, DICTIONARIES = 6, 200  # how deep, and how many dictionaries of tensors, are looked at

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
# What training keeps beside the weights. Averages of gradients have the names and shapes of the
# weights.
OF_TRAINING = {
    *(
        "optimizer",
        "optimizers",
        "optimizer_states",
        "optimizer_state",
        "optimizer_state_dict",
        "optim",
        "opt",
    ),
    *(
        "exp_avg",
        "exp_avg_sq",
        "max_exp_avg_sq",
        "exp_inf",
        "momentum_buffer",
        "square_avg",
        "acc_delta",
    ),
    *(
        "grad",
        "grads",
        "gradients",
        "scheduler",
        "lr_scheduler",
        "lr_schedulers",
        "scaler",
        "amp",
        "amp_scaler",
    ),
    *(
        "rng",
        "rng_state",
        "rng_states",
        "random_state",
        "random_states",
        "cuda_rng_state",
        "opt_state",
    ),
}


@dataclass(frozen=True)
class Candidate:
    """A state dict that might be the encoder's.

    found: nested keys and prefix, for the report. state: names as in the encoder's network, as far
    as they have one. mean_std: input statistics of one of our own encoders. rank: lower is
    preferred among equals. whose: the layout's project.
    """

    found: str
    state: State
    mean_std: tuple[Tensor, Tensor] | None
    rank: int
    whose: str = "timm"


def find_candidates(content: dict, model: nn.Module) -> list[Candidate]:
    """Every way in which some tensors of a checkpoint can be read as this network's."""
    return list(_candidates(content, model, needed_tensors(model)))


def best_candidate(candidates: list[Candidate], needed: State) -> Candidate:
    """The one that covers most of the encoder, name and shape; of equal ones the one that is used
    for evaluation.
    """
    return max(
        candidates, key=lambda candidate: (count_fitting(candidate.state, needed), -candidate.rank)
    )


def count_fitting(state: State, needed: State) -> int:
    """Tensors that are there in the right shape."""
    return sum(name in state and state[name].shape == value.shape for name, value in needed.items())


def needed_tensors(model: nn.Module) -> State:
    """The tensors a file must cover: all but classifiers and batch-norm's step counters."""
    heads = head_prefixes(model)
    return {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith(heads) and not name.endswith(COUNTER)
    }


def tensor_names(content: dict) -> Iterator[str]:
    """Names of all tensors that could be weights."""
    for _, state in _flat_dicts(content):
        yield from state


def _candidates(content: dict, model: nn.Module, needed: State) -> Iterator[Candidate]:
    for where, raw in _flat_dicts(content):
        names = tidy_names(raw, model)
        state = {names[name]: value for name, value in raw.items()}
        for layout in layouts_for(model):
            for prefix in _prefixes(state, needed, layout):
                rank = _rank([*where, *prefix.split(".")])
                found = ".".join([*where, prefix.rstrip(".")]).strip(".") or "top level"
                found += "" if layout.whose == "timm" else f", {layout.whose} names"
                inner = _translated(state, prefix, layout, needed)
                mean_std = _mean_std(state, prefix)
                yield Candidate(found, inner, mean_std, rank, layout.whose)
                converted = _converted(inner, model, needed, layout)
                if converted is not None:
                    yield Candidate(found, converted, mean_std, rank + 1, layout.whose)


def _flat_dicts(content: dict) -> Iterator[tuple[tuple[str, ...], State]]:
    """Every dictionary in the file that holds tensors under strings, with the keys that lead
    there.
    """
    pending: list[tuple[tuple[str, ...], dict]] = [((), content)]
    seen: set[int] = set()
    count = 0
    while pending and count < DICTIONARIES:
        where, place = pending.pop(0)
        if id(place) in seen:
            continue
        seen.add(id(place))
        for state in (_tensors(place), _haiku_modules(place)):
            if state:
                count += 1
                yield where, state
        pending += [((*where, str(k)), v) for k, v in _inner_dicts(place) if len(where) < DEPTH]


def _inner_dicts(place: dict) -> Iterator[tuple[Any, dict]]:
    for key, value in place.items():
        value = module_state(value) if isinstance(value, Inert) else value
        if isinstance(value, dict) and "/" not in str(key) and str(key).lower() not in OF_TRAINING:
            yield key, value


def _tensors(place: dict) -> State:
    return {
        key: value
        for key, value in place.items()
        if isinstance(key, str) and _is_weight(key, value)
    }


def _is_weight(name: str, value: Any) -> bool:
    """A dense tensor that is no gradient's average; sparse, quantised and empty ones cannot be
    copied.
    """
    if (
        not isinstance(value, Tensor)
        or value.layout != torch.strided
        or value.is_quantized
        or value.is_meta
    ):
        return False
    words = name.split(".")
    return not (OF_TRAINING.intersection(words[:1]) or OF_TRAINING.intersection(words[-1:]))


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
        for start in range(min(len(parts), 24)):
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


# ---------------------------------------------------------------- conversions of whole state dicts


def _converted(state: State, model: nn.Module, needed: State, layout: NameLayout) -> State | None:
    """The state dict with tensors joined and interpolated as its project's own loader would; None
    where none applies.
    """
    if layout.whose not in ("timm", HUGGING_FACE):
        return None
    try:
        joined = join(state, needed) if layout.whose == HUGGING_FACE else state
        converted = _family_filter(joined, model)
    except (
        KeyError,
        IndexError,
        AttributeError,
        RuntimeError,
        ValueError,
        TypeError,
        AssertionError,
        ZeroDivisionError,
    ):
        return None  # tensors of another kind under these names
    if converted is None:
        return joined if layout.whose == HUGGING_FACE else None
    return converted


def _family_filter(state: State, model: nn.Module) -> State | None:
    """timm's own conversion for this family: original names to timm's, positional embeddings to
    another grid.
    """
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return None
    patches = state.get("patch_embed.proj.weight")
    with contextlib.redirect_stdout(io.StringIO()):  # timm's filter for Eva prints what it tries
        converted = dict(convert(dict(state), model))
    if patches is not None and patches.ndim == 4:
        # timm would resize another patch size in silence
        converted["patch_embed.proj.weight"] = patches
    return converted | _dropped_biases(state, converted)


def _dropped_biases(state: State, converted: State) -> State:
    """Biases of attention that timm leaves out for a network without them, although they are not
    zero.
    """
    biases = {name: value for name, value in state.items() if name.endswith("attn.qkv.bias")}
    return {
        name: value
        for name, value in biases.items()
        if name not in converted
        and name.replace("qkv.bias", "q_bias") not in converted
        and bool(value.any())
    }
