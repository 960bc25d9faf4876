import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ssl_parts.data import cache as caching
from ssl_parts.data.bank import ImageBank
from ssl_parts.data.decode import decode_image
from ssl_parts.data.geometry import fit_image
from ssl_parts.data.order import batch_indices
from ssl_parts.data.records import Sample
from ssl_parts.data.sets.folder import Folder
from ssl_parts.errors import ConfigError, DataError


class Counted(Folder):
    """A folder that counts what it decodes."""

    decoded = 0

    def image(self, i):
        self.decoded += 1
        return super().image(i)


@pytest.fixture
def counted(image_folder):
    return Counted(image_folder)


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_images_are_the_fitted_files(counted, tmp_path, cache, fit):
    bank = ImageBank(counted, 32, fit, cache, tmp_path / "cache")
    for _ in range(2):  # the second time from the cache
        images = bank.images([7, 0, 7])
        for image, i in zip(images, (7, 0, 7)):
            assert torch.equal(
                image, fit_image(decode_image(counted.root / counted.paths[i]), 32, fit)
            )
    assert torch.equal(bank.sample(7).image, images[0])
    assert counted.decoded == {"memory": 3, "disk": 3, "none": 7}[cache]


def test_subset_of_rows_and_its_labels(counted):
    bank = ImageBank(counted, 16, indices=[5, 2, 9])
    assert len(bank) == 3 and bank.paths == [counted.paths[i] for i in (5, 2, 9)]
    assert bank.labels.tolist() == counted.labels[[5, 2, 9]].tolist()
    assert torch.equal(bank.images([1])[0], ImageBank(counted, 16).images([2])[0])
    assert bank.sample(1).path == counted.paths[2]


def test_returned_images_are_the_callers_own(counted):
    bank = ImageBank(counted, 16)
    bank.images([0]).zero_()
    assert bank.images([0]).any()


def test_disk_cache_outlives_the_bank_and_tells_contents_apart(counted, tmp_path, write_image):
    first = ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c").fill()
    assert counted.decoded == 12
    again = ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c").fill()
    assert counted.decoded == 12 and torch.equal(again.images(range(12)), first.images(range(12)))
    ImageBank(counted, 16, "pad", cache="disk", cache_dir=tmp_path / "c").images([0])
    assert counted.decoded == 13
    write_image(counted.root / counted.paths[3], 70, 70, seed=99)
    changed = ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c").images([3])
    assert counted.decoded == 14 and not torch.equal(changed, first.images([3]))


def test_disk_cache_is_shared_by_processes(image_folder, tmp_path):
    code = (
        "import sys; from ssl_parts.data.bank import ImageBank; from ssl_parts.data.sets.folder import Folder\n"
        "b = ImageBank(Folder(sys.argv[1]), 24, cache='disk', cache_dir=sys.argv[2]).fill(start=int(sys.argv[3]))\n"
        "from ssl_parts.data.order import batch_indices\n"
        "print(int(b.images(range(12)).long().sum()), *batch_indices(41, 7, 60, 9))"
    )
    arguments = [sys.executable, "-c", code, str(image_folder), str(tmp_path / "c")]
    running = [
        subprocess.Popen([*arguments, start], stdout=subprocess.PIPE, text=True)
        for start in ("0", "6")
    ]
    said = {process.communicate()[0].strip() for process in running}
    total = int(ImageBank(Folder(image_folder), 24).images(range(12)).long().sum())
    # the order is the same there too
    assert said == {" ".join(map(str, [total, *batch_indices(41, 7, 60, 9)]))}
    assert len(list((tmp_path / "c").iterdir())) == 1  # one cache, and no temporary left


def test_flags_follow_pixels_to_disk(counted, tmp_path, monkeypatch):
    """What is not flushed is not flagged, so a killed machine leaves no flag on missing pixels."""
    monkeypatch.setattr(caching, "FLUSH_BYTES", 4 * 3 * 16 * 16)
    bank = ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c")
    done = lambda: int(np.load(next((tmp_path / "c").glob("*/done.npy"))).sum())  # noqa: E731
    bank.images([0, 1, 2])
    assert done() == 0
    bank.images([3])
    assert done() == 4
    bank.images([4])
    bank.flush()
    assert done() == 5


def test_pixels_that_cannot_be_flushed_are_not_flagged(counted, tmp_path, monkeypatch):
    bank = ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c")
    bank.images([0, 1])
    monkeypatch.setattr(
        np.memmap, "flush", lambda array: (_ for _ in ()).throw(OSError("the disk is full"))
    )
    with pytest.raises(OSError, match="full"):
        bank.flush()
    assert not np.load(next((tmp_path / "c").glob("*/done.npy"))).any()


def test_damaged_cache_folder_is_named(counted, tmp_path):
    ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c")
    next((tmp_path / "c").glob("*/done.npy")).write_bytes(b"junk")
    with pytest.raises(DataError, match="delete it"):
        ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c")


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_a_truncated_file_is_found_before_training(counted, tmp_path, cache):
    for i in (4, 8):
        path = counted.root / counted.paths[i]
        path.write_bytes(path.read_bytes()[:-300])
    bank = ImageBank(counted, 16, cache=cache, cache_dir=tmp_path / "c")
    with pytest.raises(DataError, match=r"(?s)2 of 12 images.*bee.*\.jpg.*on_bad_image=skip"):
        bank.fill()
    with pytest.warns(UserWarning, match="2 of 12"):
        kept = bank.fill("skip")
    assert len(kept) == 10 == len(kept.labels) == len(kept.paths)
    assert not {counted.paths[i] for i in (4, 8)} & set(kept.paths)
    assert kept.images(range(10)).shape[0] == 10
    for i in range(12):
        (counted.root / counted.paths[i]).write_bytes(b"")
    fresh = ImageBank(counted, 16, cache=cache, cache_dir=tmp_path / "d")
    with pytest.warns(UserWarning), pytest.raises(DataError, match="no image is left"):
        fresh.fill("skip")


def test_threads_fill_one_cache(counted):
    bank, alone = ImageBank(counted, 24), ImageBank(counted, 24).images(range(12))
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda s: bank.images(np.roll(np.arange(12), s)), range(40)))
    for shift, batch in enumerate(batches):
        assert torch.equal(batch, alone[torch.from_numpy(np.roll(np.arange(12), shift))])


def test_more_memory_than_there_is(counted, monkeypatch):
    monkeypatch.setattr(caching, "_free_memory", lambda: 12 * 3 * 16 * 16)
    with pytest.raises(DataError, match=r"12 images of 16 x 16 need .* GiB.*data\.cache=disk"):
        ImageBank(counted, 16)


def test_bad_settings(counted):
    for arguments, message in (
        ({"size": 4}, r"size=4"),
        ({"size": 16, "cache": "ram"}, r"cache='ram'.*memory, disk, none"),
        ({"size": 16, "cache": "disk"}, "cache_dir"),
        ({"size": 16, "fit": "x"}, "fit='x'"),
    ):
        with pytest.raises(ConfigError, match=message):
            ImageBank(counted, **arguments)
    with pytest.raises(DataError, match="empty"):
        ImageBank(counted, 16, indices=[])
    with pytest.raises(DataError, match="of 12"):
        ImageBank(counted, 16, indices=[12])
    with pytest.raises(DataError, match=r"holds 0\.\.11"):
        ImageBank(counted, 16).images([12])


def test_a_set_without_images_is_refused():
    class Empty:
        name, split, paths, labels = "mine", "train", [], np.zeros(0, np.int64)

        def __len__(self):
            return 0

    with pytest.raises(DataError, match="mine has no images in split 'train'"):
        ImageBank(Empty(), 16)


def test_any_object_with_the_surface_works():
    """Nothing but the PartsDataset surface is needed."""

    class Plain:
        name, split, paths, labels = "plain", "train", ["a", "b"], np.array([0, -1])

        def __len__(self):
            return 2

        def __getitem__(self, i):
            return Sample(torch.full((3, 20, 30), 10 * i, dtype=torch.uint8), None, self.paths[i])

    bank = ImageBank(Plain(), 16).fill()
    assert bank.images([1]).unique().tolist() == [10]


def test_a_changed_row_on_disk_is_decoded_again(counted, tmp_path, caplog):
    first = ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c").fill().images(range(4))
    file = next((tmp_path / "c").glob("*/pixels.npy"))
    data = bytearray(file.read_bytes())
    data[128 + 2 * 3 * 16 * 16 + 5] ^= 4
    file.write_bytes(data)
    counted.decoded = 0
    bank = ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c")
    assert torch.equal(bank.images(range(4)), first) and counted.decoded == 1
    assert "row 2 has changed on disk" in caplog.text
    assert torch.equal(
        ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c").images([2])[0], first[2]
    )


@pytest.mark.parametrize("name", ["pixels.npy", "sums.npy", "done.npy"])
def test_a_disk_cache_cut_short_is_named(counted, tmp_path, name):
    ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c").fill()
    file = next((tmp_path / "c").glob(f"*/{name}"))
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:131], whole[:3], whole + b"x"):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.cache=disk: cannot use .*delete it"):
            ImageBank(counted, 16, cache="disk", cache_dir=tmp_path / "c")
        assert file.read_bytes() == content  # and is not lengthened


def test_the_room_of_a_disk_cache_is_reserved(counted, tmp_path, monkeypatch):
    bank = ImageBank(counted, 64, cache="disk", cache_dir=tmp_path / "c")
    file = next((tmp_path / "c").glob("*/pixels.npy"))
    assert file.stat().st_blocks * 512 >= file.stat().st_size and len(bank) == len(counted)
    left = tmp_path / "d" / f".{file.parent.name}-killed"
    left.mkdir(parents=True)
    os.utime(left, (1, 1))

    def no_room(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(DataError, match=r"No space left on device.*data\.cache=memory"):
        ImageBank(counted, 64, cache="disk", cache_dir=tmp_path / "d")
    assert not list((tmp_path / "d").iterdir())
