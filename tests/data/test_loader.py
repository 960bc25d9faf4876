import threading

import numpy as np
import pytest
import torch

from ssl_parts.data.bank import ImageBank
from ssl_parts.data.loader import BatchStream
from ssl_parts.data.order import batch_indices
from ssl_parts.data.sets.folder import Folder
from ssl_parts.errors import ConfigError, DataError


@pytest.fixture
def bank(image_folder):
    return ImageBank(Folder(image_folder), 16)


def take(stream, number):
    with stream:
        return [next(stream) for _ in range(number)]


def same(a, b):
    return all(
        x[0] == y[0] and torch.equal(x[1], y[1]) and torch.equal(x[2], y[2])
        for x, y in zip(a, b, strict=True)
    )


def test_a_batch_is_a_function_of_the_step(bank):
    run = take(BatchStream(bank, 4, seed=2), 9)
    for t, (step, indices, images) in enumerate(run):
        assert step == t and np.array_equal(indices.numpy(), batch_indices(t, 4, 12, 2))
        assert torch.equal(images, bank.images(indices))
    for workers, prefetch in ((1, 1), (3, 2), (5, 11)):
        assert same(run, take(BatchStream(bank, 4, seed=2, workers=workers, prefetch=prefetch), 9))
    assert same(run[5:], take(BatchStream(bank, 4, seed=2, start_step=5), 4))


def test_ranks_read_disjoint_shares_also_after_resume_with_another_number(bank):
    whole = take(BatchStream(bank, 6, seed=0, start_step=3), 2)
    for world in (2, 3):
        shares = [
            take(BatchStream(bank, 6, seed=0, start_step=3, rank=r, world_size=world), 2)
            for r in range(world)
        ]
        for t in range(2):
            assert torch.equal(torch.cat([share[t][1] for share in shares]), whole[t][1])
            assert torch.equal(torch.cat([share[t][2] for share in shares]), whole[t][2])


def test_errors_reach_the_consumer_with_the_path_and_threads_stop(image_folder, bank):
    bad = image_folder / bank.paths[0]
    bad.write_bytes(bad.read_bytes()[:200])
    before = threading.active_count()
    stream = BatchStream(ImageBank(Folder(image_folder), 16, cache="none"), 12)
    with pytest.raises(DataError, match=bad.name):
        next(stream)
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(stream)


def test_close_ends_all_threads(bank):
    before = threading.active_count()
    stream = BatchStream(bank, 4, workers=4)
    next(stream)
    assert threading.active_count() > before
    stream.close()
    stream.close()
    assert threading.active_count() == before and list(stream) == []


def test_waiting_is_measured(bank):
    release = threading.Event()

    class Slow:
        def __len__(self):
            return 12

        def images(self, indices):
            release.wait(5)
            return bank.images(indices)

    with BatchStream(Slow(), 4, workers=1, prefetch=1) as stream:
        threading.Timer(0.2, release.set).start()
        next(stream)
        assert 0.1 < stream.waited < 5


def test_another_order(bank):
    stream = BatchStream(bank, 3, indices_of=lambda step: np.array([step % 12, 0, 5]))
    assert [i.tolist() for _, i, _ in take(stream, 3)] == [[0, 0, 5], [1, 0, 5], [2, 0, 5]]


def test_bad_settings_fail_before_any_thread(bank):
    before = threading.active_count()
    with pytest.raises(ConfigError, match="larger than the data set of 12"):
        BatchStream(bank, 13)
    with pytest.raises(ConfigError, match="multiple of 5"):
        BatchStream(bank, 12, world_size=5)
    with pytest.raises(ConfigError, match="worker"):
        BatchStream(bank, 4, workers=0)
    assert threading.active_count() == before
