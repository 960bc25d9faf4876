"""Linear and k-NN figures of a folder of photographs against a script of timm, Pillow and
scikit-learn that shares no code with this project.
"""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from evaluation.protocols import Bench, KnnProtocol, LinearProtocol, run_protocol
from ssl_parts.data import DataConfig, build_bank
from ssl_parts.encoders import build_encoder

CLASSES, TRAIN, TEST, SIZE, K = 4, 10, 10, 48, 7


def photographs(folder):
    """Smooth noise whose colour leans towards that of its class, as JPEG."""
    rng = np.random.default_rng(0)
    lean = np.array([[40, 0, 0], [0, 40, 0], [0, 0, 40], [25, 25, 0]])
    for split, count in (("train", TRAIN), ("test", TEST)):
        for number in range(count * CLASSES):
            width, height = (int(side) for side in rng.integers(70, 110, 2))
            coarse = rng.integers(50, 180, (9, 9, 3)) + lean[number % CLASSES]
            coarse = coarse + rng.integers(-25, 25, 3)
            image = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
            path = folder / split / f"class_{number % CLASSES}" / f"{number:03d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=92)
    return folder


def features_by_hand(network, folder):
    """Pooled features and labels: Pillow cuts and resizes, timm encodes."""
    squares, labels = [], []
    for path in sorted(folder.glob("*/*.jpg")):
        image = Image.open(path).convert("RGB")
        side = round(0.875 * min(image.size))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        window = image.crop((left, top, left + side, top + side))
        squares.append(np.asarray(window.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
        labels.append(int(path.parent.name[-1]))
    x = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        pooled = network((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    return pooled.double().numpy(), np.array(labels)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Our values, and (features, labels) of both splits by hand."""
    folder = photographs(tmp_path_factory.mktemp("photographs"))
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=0).eval()
    encoder = build_encoder("resnet18").eval()
    encoder.model.load_state_dict(network.state_dict())
    config = DataConfig(name="folder", root=str(folder), size=SIZE)
    bench = Bench(encoder, build_bank(config), build_bank(config, "test"))
    values = {}
    for protocol in (LinearProtocol(), KnnProtocol(k=[K])):
        values |= run_protocol(protocol, bench)[0].values
    return values, [features_by_hand(network, folder / split) for split in ("train", "test")]


def test_linear_probe_is_scikit_learns_within_one_image(measured):
    values, ((train_x, train_y), (test_x, test_y)) = measured
    # scikit-learn's default tolerance, or features in single precision, stop short of the optimum
    model = LogisticRegression(C=1.0, max_iter=10_000, tol=1e-8).fit(train_x, train_y)
    expected = model.score(test_x, test_y)
    assert 0.4 < expected < 1
    assert abs(values["accuracy"].mean - expected) * len(test_y) <= 1.001


def test_neighbours_are_scikit_learns_within_one_image(measured):
    """The vote is the same; Pillow and torch round a few pixels of a resized image differently."""
    values, ((train_x, train_y), (test_x, test_y)) = measured
    weigh = lambda distances: np.exp((1 - distances) / 0.07)  # noqa: E731
    model = KNeighborsClassifier(K, metric="cosine", weights=weigh).fit(train_x, train_y)
    expected = model.score(test_x, test_y)
    assert 0.4 < expected < 1
    assert abs(values[f"accuracy@k={K}"].mean - expected) * len(test_y) <= 1.001
