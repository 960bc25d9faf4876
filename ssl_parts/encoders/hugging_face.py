"""Names of Hugging Face's networks (transformers) in terms of timm's.

ViT, DeiT, MAE, MSN, I-JEPA, DINOv2 with and without registers, DINOv3, ResNet, ConvNeXt: as
`save_pretrained` writes them and as `state_dict()` of transformers 5 names them. They keep query,
key and value apart and gate and value of SwiGLU too; `join` puts them together as timm has them.
"""

import re

import torch
from torch import Tensor

State = dict[str, Tensor]

_WHOLE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.distillation_token": "dist_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.position_embeddings": "pos_embed",
}
_PATCHES = re.compile(r"embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)")
_NORM = re.compile(r"(?:layernorm|layer_norm|norm)\.(weight|bias)")
_BLOCK = re.compile(r"(?:model\.)?(?:encoder\.)?layers?\.(\d+)\.(.+)\.(weight|bias|lambda1)")
_INSIDE = {
    "norm1": "norm1",
    "norm2": "norm2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.fc2",
    "layer_scale1": "ls1",
    "layer_scale2": "ls2",
} | {
    f"attention.{theirs}": f"attn.{ours}_proj"
    for ours, word in (("q", "query"), ("k", "key"), ("v", "value"))
    for theirs in (f"attention.{word}", f"{ours}_proj", word)
}


def vit_name(name: str) -> str | None:
    """timm's name of a tensor of a transformer; parts of a joint tensor as attn.q_proj, mlp.gate."""
    if name in _WHOLE:
        return _WHOLE[name]
    for pattern, ours in ((_PATCHES, "patch_embed.proj"), (_NORM, "norm")):
        match = pattern.fullmatch(name)
        if match is not None:
            return f"{ours}.{match[1]}"
    block = _BLOCK.fullmatch(name)
    if block is None or block[2] not in _INSIDE:
        return None
    leaf = "gamma" if block[3] == "lambda1" else block[3]
    return f"blocks.{block[1]}.{_INSIDE[block[2]]}.{leaf}"


def join(state: State, needed: State) -> State:
    """Query, key and value, gate and value as the one tensor that the encoder has.

    A bias that the encoder has no place for is dropped where it is all zeros (DINOv3's small
    networks) and kept under its name otherwise, so that it is seen as left over.
    """
    joined = {name: value for name, value in state.items() if name != "mask_token"}
    for name in state:
        owner, found, leaf = name.partition(".attn.q_proj.")
        if found:
            _join_attention(joined, needed, f"{owner}.attn", leaf)
        owner, found, leaf = name.partition(".mlp.up.")
        if found:
            _join_gate(joined, needed, f"{owner}.mlp", leaf)
    for name in [n for n in joined if re.search(r"\.ls[12]\.gamma$", n)]:
        eva = re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name)
        if eva in needed:
            joined[eva] = joined.pop(name)
    return _fold_position(joined, needed)


def _join_attention(state: State, needed: State, owner: str, leaf: str) -> None:
    names = [f"{owner}.{word}_proj.{leaf}" for word in "qkv"]
    if names[0] in needed:
        return
    query, key, value = (state.pop(name, None) for name in names)
    if query is None or value is None:
        return
    key = torch.zeros_like(query) if key is None else key  # a key's bias changes no attention
    if f"{owner}.q_bias" in needed and leaf == "bias":
        state |= {f"{owner}.q_bias": query, f"{owner}.v_bias": value}
    elif f"{owner}.qkv.{leaf}" in needed or leaf != "bias" or query.any() or value.any():
        state[f"{owner}.qkv.{leaf}"] = torch.cat([query, key, value])


def _join_gate(state: State, needed: State, owner: str, leaf: str) -> None:
    up, gate = state.pop(f"{owner}.up.{leaf}"), state.pop(f"{owner}.gate.{leaf}", None)
    if gate is None:
        state[f"{owner}.fc1.{leaf}"] = up
    elif f"{owner}.fc1_g.{leaf}" in needed:
        state |= {f"{owner}.fc1_g.{leaf}": gate, f"{owner}.fc1_x.{leaf}": up}
    else:
        state[f"{owner}.fc1.{leaf}"] = torch.cat([gate, up])


def _fold_position(state: State, needed: State) -> State:
    """DINOv2 with registers: the class token's position goes into the token, as timm has it."""
    position, token = state.get("pos_embed"), state.get("cls_token")
    if position is None or token is None or "reg_token" not in needed:
        return state
    if position.ndim != 3 or not _is_square(position.shape[1] - 1):
        return state
    return state | {"cls_token": token + position[:, :1], "pos_embed": position[:, 1:]}


def _is_square(count: int) -> bool:
    return count > 0 and round(count**0.5) ** 2 == count


# ---------------------------------------------------------------- convolutional networks

_RESNET = re.compile(
    r"(?:embedder\.(?P<stem>embedder)|encoder\.stages\.(?P<stage>\d)\.layers\.(?P<block>\d+)\."
    r"(?:layer\.(?P<part>\d)|(?P<shortcut>shortcut)))\.(?P<kind>convolution|normalization)\.(?P<leaf>\w+)"
)


def resnet_name(name: str) -> str | None:
    """timm's name of a tensor of Hugging Face's ResNet."""
    match = _RESNET.fullmatch(name)
    if match is None:
        return None
    kind = "conv" if match["kind"] == "convolution" else "bn"
    if match["stem"]:
        return f"{kind}1.{match['leaf']}"
    part = (
        f"downsample.{int(kind == 'bn')}"
        if match["shortcut"]
        else f"{kind}{int(match['part']) + 1}"
    )
    return f"layer{int(match['stage']) + 1}.{match['block']}.{part}.{match['leaf']}"


_CONVNEXT = re.compile(r"(?:model\.|encoder\.)?stages\.(\d)\.(?:layers\.(\d+)|down\w+\.(\d))\.(.+)")
_CONVNEXT_PARTS = {
    **{"dwconv": "conv_dw", "depthwise_conv": "conv_dw", "layernorm": "norm", "layer_norm": "norm"},
    **{"pwconv1": "mlp.fc1", "pointwise_conv1": "mlp.fc1", "grn": "mlp.grn"},
    **{"pwconv2": "mlp.fc2", "pointwise_conv2": "mlp.fc2"},
}


def convnext_name(name: str) -> str | None:
    """timm's name of a tensor of Hugging Face's ConvNeXt (V1, V2, and DINOv3's)."""
    for theirs, ours in (
        ("embeddings.patch_embeddings.", "stem.0."),
        ("embeddings.layernorm.", "stem.1."),
        ("layernorm.", "head.norm."),
        ("layer_norm.", "head.norm."),
    ):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    match = _CONVNEXT.fullmatch(name)
    if match is None:
        return None
    stage, block, down, rest = match.groups()
    if block is None:  # DINOv3 counts the stem as the first stage's
        return f"stem.{down}.{rest}" if stage == "0" else f"stages.{stage}.downsample.{down}.{rest}"
    if rest in ("layer_scale_parameter", "gamma"):
        return f"stages.{stage}.blocks.{block}.gamma"
    owner, _, leaf = rest.rpartition(".")
    ours = _CONVNEXT_PARTS.get(owner)
    return None if ours is None else f"stages.{stage}.blocks.{block}.{ours}.{leaf}"
