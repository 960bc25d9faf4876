"""Where weights are kept, and what the folder around them says about their network.

RUN/config.yaml   RUN/export/{model.safetensors,config.json}
RUN/round_000/encoder.safetensors                                       the encoder a finished round ended with
RUN/round_000/checkpoints/step_000500/{student,teacher}.safetensors     RUN/round_000/checkpoints/last names the newest
EXPORT/{model.safetensors,config.json}          a timm directory: ours, or a snapshot of timm's from the hub
SNAPSHOT/{model.safetensors,preprocessor_config.json}   Hugging Face, whole or in shards; accelerate's save_state
"""

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssl_parts.encoders.digests import verify_export
from ssl_parts.encoders.documents import read_json, read_yaml
from ssl_parts.errors import ConfigError, WeightsError

EXPORTED = "model.safetensors"  # in an export
STATE_DICT = "model.pth"  # in an export to=state_dict
TIMM = "pytorch_model.bin"  # in a snapshot of timm's, beside model.safetensors or instead of it
FINISHED = "encoder.safetensors"  # in a round that is over
COPIES = ("student", "teacher")
OF_RUNS = (FINISHED, "discovery.safetensors", *(f"{copy}.safetensors" for copy in COPIES))
# What other programs call the weights of a folder, in the order in which they are looked for.
SNAPSHOTS = (
    *(EXPORTED, "model.safetensors.index.json", TIMM, "pytorch_model.bin.index.json"),
    *("diffusion_pytorch_model.safetensors", "open_clip_model.safetensors"),
)
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz", ".npy", ".pkl", ".tar")
LARGEST_SIDE = 16384  # pixels


@dataclass(frozen=True)
class Located:
    """The file that holds the tensors, and what the folder around it says about the network.

    architecture, model_args: from an export's config.json. mean, std: from that or from
    preprocessor_config.json. settings: the `encoder:` node of a run's config.yaml. run: the run
    directory. image_size: side of the images the encoder was trained on. Each is None or empty
    where the folder does not say.
    """

    weights: Path
    architecture: str | None = None
    model_args: dict[str, Any] = field(default_factory=dict)
    mean: list[float] | None = None
    std: list[float] | None = None
    settings: dict[str, Any] | None = None
    run: Path | None = None
    image_size: int | None = None


def locate(path: Path, which: str = "best") -> Located:
    """Find the weights behind a path; `~` is the home folder.

    Args:
        path: a file, a run directory, a round, a checkpoint, an export, or a folder of Hugging
            Face's or accelerate's.
        which: "best" takes what the run made last: the newest finished round, else its export,
            else the student of the newest checkpoint. "student" and "teacher" take that copy from
            the newest checkpoint.

    Raises:
        WeightsError: nothing there, a folder of another kind (the message says what was looked for
            and what is there), settings that cannot be read, or an export that is not as written.
    """
    if which not in ("best", *COPIES):
        raise WeightsError(f"which={which!r} is not one of best, {', '.join(COPIES)}")
    path = expand_path(path)
    if path.is_file():
        return _locate_file(path)
    for name in (EXPORTED, STATE_DICT, TIMM):
        if (path / name).is_file() and "architecture" in _config_of(path):
            return _exported(path / name)
    if which == "best" and (finished := _finished(path)) is not None:
        return _in_run(finished)
    if which == "best" and (path / "export" / EXPORTED).is_file():
        return replace(_exported(path / "export" / EXPORTED), run=path)
    copy = "student" if which == "best" else which
    checkpoint = newest_checkpoint(path)
    if checkpoint is None:
        return _locate_in_snapshot(path, copy)
    if not (checkpoint / f"{copy}.safetensors").is_file():
        raise WeightsError(
            f"{checkpoint} lacks {copy}.safetensors: the checkpoint is not whole, use the one before"
        )
    return _in_run(checkpoint / f"{copy}.safetensors")


def expand_path(path: str | Path) -> Path:
    """The path with `~` as the home folder, which no shell expands in key=~/file.

    Raises:
        WeightsError: nothing there, or a path that cannot be looked at.
    """
    try:
        expanded = Path(path).expanduser()
        expanded.stat()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a home that is not known
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        reason = "does not exist" if missing else f"cannot be opened ({error})"
        raise WeightsError(
            f"encoder.weights={path} {reason}; give a file, a folder or 'pretrained'"
        ) from error
    return expanded


def check_input_statistics(mean: Any, std: Any, where: str) -> None:
    """ConfigError unless both are None or three finite numbers each, std above 0."""
    if (mean is None) != (std is None):
        raise ConfigError(
            f"{where}mean={mean} and {where}std={std} go together: give both or neither"
        )
    if mean is None:
        return
    triples = all(isinstance(values, (list, tuple)) and len(values) == 3 for values in (mean, std))
    if not triples or not all(_is_number(value) for value in (*mean, *std)) or min(std) <= 0:
        raise ConfigError(
            f"{where}mean={mean}, {where}std={std}: three numbers each are needed, std above 0"
        )


# ---------------------------------------------------------------- files


def _locate_file(path: Path) -> Located:
    if path.name in OF_RUNS:
        return _in_run(path)
    if path.name in (EXPORTED, STATE_DICT, TIMM) and "architecture" in _config_of(path.parent):
        return _exported(path)
    return _with_preprocessing(path)


def _in_run(weights: Path) -> Located:
    """A file of tensors, with the settings of the run it lies in, if it lies in one."""
    run = next(
        (folder for folder in weights.resolve().parents[:4] if (folder / "config.yaml").is_file()),
        None,
    )
    if run is None:
        return Located(weights)
    content = read_yaml(run / "config.yaml")
    settings, data = content.get("encoder"), content.get("data")
    if settings is not None and not isinstance(settings, dict):
        raise WeightsError(
            f"{run / 'config.yaml'}: encoder is {settings!r}, not a mapping of settings"
        )
    size = _side(data.get("size")) if isinstance(data, dict) else None
    return Located(weights, settings=settings, run=run, image_size=size)


# ---------------------------------------------------------------- runs


def _finished(path: Path) -> Path | None:
    """The encoder that a round, or the last finished round of a run, ended with."""
    found = [path / FINISHED, *sorted(path.glob(f"round_*/{FINISHED}"), reverse=True)]
    return next((file for file in found if file.is_file()), None)


def newest_checkpoint(path: Path) -> Path | None:
    """The folder with the newest student and teacher under a run, a round or a `checkpoints`
    folder.
    """
    if any((path / f"{copy}.safetensors").is_file() for copy in COPIES):
        return path
    for folder in [
        path,
        path / "checkpoints",
        *sorted(path.glob("round_*/checkpoints"), reverse=True),
    ]:
        steps = sorted(
            step for step in folder.glob("step_*") if re.fullmatch(r"step_\d+", step.name)
        )
        newest = {step.name: step for step in steps}.get(_first_line(folder / "last"))
        if newest is not None or steps:
            return newest or steps[-1]
    return None


def _first_line(path: Path) -> str:
    """The start of a small text file; "" where it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        return ""


# ---------------------------------------------------------------- exports and snapshots


def _config_of(folder: Path) -> dict[str, Any]:
    """config.json of a folder; {} where there is none."""
    return read_json(folder / "config.json") if (folder / "config.json").is_file() else {}


def _exported(weights: Path) -> Located:
    folder = weights.parent
    verify_export(folder, weights.name, "config.json")
    content = _config_of(folder)
    about = content.get("pretrained_cfg") or {}
    args = content.get("model_args") or {}
    if (
        not isinstance(about, dict)
        or not isinstance(args, dict)
        or not isinstance(content["architecture"], str)
    ):
        raise WeightsError(f"{folder / 'config.json'} is not the config.json of an export")
    if args.get("in_chans", 3) != 3:
        raise WeightsError(
            f"{folder / 'config.json'}: the network takes {args['in_chans']} channels, not RGB's three"
        )
    args = {key: value for key, value in args.items() if key not in ("in_chans", "num_classes")}
    size = about.get("input_size")
    located = Located(weights, content["architecture"], args, about.get("mean"), about.get("std"))
    located = replace(
        located, image_size=_side(size[-1]) if isinstance(size, list) and size else None
    )
    return _with_checked_statistics(located, folder / "config.json")


def _locate_in_snapshot(path: Path, copy: str) -> Located:
    """The weights of a folder that another program wrote."""
    if not path.is_dir():
        raise WeightsError(f"{path} is neither a file nor a folder")
    for name in SNAPSHOTS:
        if (path / name).is_file():
            return _with_preprocessing(path / name)
    shards = sorted(path.glob("*-00001-of-*.*"))
    if shards:
        return _with_preprocessing(shards[0])
    files = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES)
    hint = f"give one of its files, such as {files[0]}" if files else _other_folder(path)
    raise WeightsError(
        f"{path} holds no weights: looked for {EXPORTED}, {FINISHED}, round_*/{FINISHED}, export/{EXPORTED}, "
        f"round_*/checkpoints/step_*/{copy}.safetensors and {', '.join(SNAPSHOTS[1:4])}; {hint}"
    )


def _other_folder(path: Path) -> str:
    if any(path.glob("*.distcp")) or any(path.glob("*/*.distcp")):
        return "these are FSDP's shards: merge them with `accelerate merge-weights FOLDER OUT` and give OUT"
    if (path / "zero_to_fp32.py").is_file():
        return "these are DeepSpeed's shards: merge them with its zero_to_fp32.py and give the file"
    return "give a file, a run directory, a checkpoint or an export"


def _with_preprocessing(weights: Path) -> Located:
    """A file of weights, with the input that Hugging Face's preprocessor_config.json describes."""
    config = weights.parent / "preprocessor_config.json"
    if not config.is_file():
        return Located(weights)
    about = read_json(config)
    size = about.get("crop_size") or about.get("size")
    size = (size.get("height") or size.get("shortest_edge")) if isinstance(size, dict) else size
    mean, std = about.get("image_mean"), about.get("image_std")
    if about.get("do_normalize") is False:
        mean, std = [0.0] * 3, [1.0] * 3
    located = Located(weights, mean=mean, std=std, image_size=_side(size))
    return _with_checked_statistics(located, config)


def _with_checked_statistics(located: Located, where: Path) -> Located:
    try:
        check_input_statistics(located.mean, located.std, "")
    except ConfigError as error:
        raise WeightsError(f"{where}: {error}") from error
    return located


def _side(value: Any) -> int | None:
    return value if type(value) is int and 0 < value <= LARGEST_SIDE else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
