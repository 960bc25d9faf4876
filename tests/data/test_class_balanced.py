import numpy as np
import pytest
import torch

from ssl_parts.data.bank import ImageBank
from ssl_parts.data.class_balanced import ClassBalanced
from ssl_parts.data.device_bank import DeviceBank
from ssl_parts.data.loader import BatchStream
from ssl_parts.data.sets.folder import Folder
from ssl_parts.errors import ConfigError, DataError

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(7), [10, 3, 1, 12, 8, 2, 5]))


def test_p_classes_of_q_images():
    order = ClassBalanced(LABELS, classes=3, images=4, seed=1)
    assert order.batch == 12
    for step in range(60):
        labels = LABELS[order(step)].reshape(3, 4)
        assert (labels == labels[:, :1]).all() and len(set(labels[:, 0])) == 3
        assert 2 not in labels  # a single image makes no pair
        for group in order(step).reshape(3, 4):
            members = int((LABELS[group[0]] == LABELS).sum())
            assert len(set(group)) == min(4, members)
    assert np.array_equal(order(41), ClassBalanced(LABELS, 3, 4, seed=1)(41))
    assert any(
        not np.array_equal(order(s), ClassBalanced(LABELS, 3, 4, seed=2)(s)) for s in range(3)
    )


def test_classes_and_their_images_are_read_equally_often():
    order = ClassBalanced(LABELS, classes=2, images=2)
    seen = np.bincount(np.concatenate([order(step) for step in range(3000)]), minlength=len(LABELS))
    for label in (0, 1, 3, 4, 5, 6):
        counts = seen[label == LABELS]
        assert counts.min() > 0.9 * counts.max()
        # six classes in passes of three steps: each in every pass
        assert abs(counts.sum() - 2000) < 1


def test_no_image_twice_in_a_pass_of_its_class():
    order = ClassBalanced(np.zeros(10, dtype=int).repeat(1), classes=1, images=3)
    rounds = [np.concatenate([order(r * 3 + s) for s in range(3)]) for r in range(4)]
    assert all(len(set(round_)) == 9 for round_ in rounds)


def test_errors():
    with pytest.raises(ConfigError, match="7 classes were asked for; 6 classes"):
        ClassBalanced(LABELS, 7, 2)
    with pytest.raises(ConfigError, match="at least 2"):
        ClassBalanced(LABELS, 2, 1)
    with pytest.raises(ConfigError, match="0 classes have"):
        ClassBalanced(np.full(5, -1), 1, 2)


def test_stream_of_balanced_batches_and_device_bank(image_folder):
    bank = ImageBank(Folder(image_folder), 16)
    order, device = ClassBalanced(bank.labels, 3, 2), DeviceBank(bank, "cpu")
    with BatchStream(device, order.batch, indices_of=order) as stream:
        for _ in range(5):
            step, indices, images = next(stream)
            assert np.array_equal(indices.numpy(), order(step)) and torch.equal(
                images, bank.images(indices)
            )
    assert len(device) == 12 and torch.equal(device.images([3, 3, 0]), bank.images([3, 3, 0]))
    assert torch.equal(device.sample(2).image, bank.sample(2).image)
    with pytest.raises(DataError, match=r"0\.\.11"):
        device.images([12])


@pytest.mark.gpu
def test_device_bank_on_a_gpu(image_folder):
    bank = ImageBank(Folder(image_folder), 16)
    images = DeviceBank(bank, "cuda").images([5, 1])
    assert images.is_cuda and torch.equal(images.cpu(), bank.images([5, 1]))
