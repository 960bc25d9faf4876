"""A folder that looks to the documentation's commands like a fresh clone beside somebody's data."""

import io
import tarfile
from pathlib import Path

import torch
from PIL import Image

from ssl_parts.data import build_dataset
from ssl_parts.encoders import build_encoder
from ssl_parts.export import export_encoder

REPO = Path(__file__).resolve().parents[1]
CLASSES = ("001.Crow", "002.Jay")


def make_place(folder: Path) -> Path:
    """launch/ and configs/; images/, cub/, aircraft/, cars/, shards/ with twelve drawn birds each;
    weights.
    """
    for name in ("launch", "configs"):
        (folder / name).symlink_to(REPO / name)
    birds = build_dataset("synthetic_birds", None, "train", images=12, size=48, species=4)
    pictures = [Image.fromarray(birds[i].image.permute(1, 2, 0).numpy()) for i in range(12)]
    pictures[0].save(folder / "bird.jpg")
    for i, picture in enumerate(pictures):
        for root in (
            f"images/{split(i)}/{CLASSES[i % 2]}",
            f"unsplit/{CLASSES[i % 2]}",
            f"cars/{split(i)}/{CLASSES[i % 2]}",
        ):
            save(picture, folder / root / f"{i}.jpg")
    write_cub(folder / "cub", pictures)
    write_aircraft(folder / "aircraft", pictures)
    write_shard(folder / "shards", pictures)
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", small=True, width=0.125, last_stage="layer3")
    export_encoder(encoder, folder / "weights", to="timm", image_size=48)
    torch.save(build_encoder("resnet18").model.state_dict(), folder / "resnet18.pth")
    return folder


def split(i: int) -> str:
    return "test" if i >= 8 else "train"


def save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def write_cub(root: Path, pictures: list[Image.Image]) -> None:
    names = [f"{CLASSES[i % 2]}/{i}.jpg" for i in range(len(pictures))]
    for name, picture in zip(names, pictures):
        save(picture, root / "images" / name)
    write(root / "images.txt", [f"{i + 1} {name}" for i, name in enumerate(names)])
    write(root / "image_class_labels.txt", [f"{i + 1} {i % 2 + 1}" for i in range(len(names))])
    write(
        root / "train_test_split.txt",
        [f"{i + 1} {int(split(i) == 'train')}" for i in range(len(names))],
    )
    write(root / "classes.txt", [f"{i + 1} {name}" for i, name in enumerate(CLASSES)])


def write_aircraft(root: Path, pictures: list[Image.Image]) -> None:
    data = root / "data"
    keys = [f"{i:07d}" for i in range(len(pictures))]
    for key, picture in zip(keys, pictures):
        save(picture, data / "images" / f"{key}.jpg")
    write(data / "variants.txt", ["707-320", "A330-200"])
    splits = {"train": keys[:6], "val": keys[6:8], "test": keys[8:]}
    for name, members in splits.items():
        write(
            data / f"images_variant_{name}.txt",
            [f"{k} {('707-320', 'A330-200')[int(k) % 2]}" for k in members],
        )


def write_shard(root: Path, pictures: list[Image.Image]) -> None:
    root.mkdir()
    with tarfile.open(root / "train-000000.tar", "w") as archive:
        for i, picture in enumerate(pictures):
            stream = io.BytesIO()
            picture.save(stream, "PNG")
            for name, content in ((f"{i:06d}.png", stream.getvalue()), (f"{i:06d}.cls", b"0")):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
