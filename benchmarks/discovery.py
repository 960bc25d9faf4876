"""Part discovery against scikit-learn and faiss, image by image; its rate on a GPU; its memory.

    python benchmarks/discovery.py --root DIR                     # a folder of photographs; ResNet-50, random weights
    python benchmarks/discovery.py --root DIR --encoder mobilenetv2_100 --weights FILE
    python benchmarks/discovery.py --device cuda                  # images/s, and the share of the encoder alone
    python benchmarks/discovery.py --centroids                    # parts=dataset: torch against faiss, one core
    python benchmarks/discovery.py --memory                       # peak memory for 1,000 and 10,000 images, about 2 min

On CPU: one core, the processor's time. Both sides cluster the same points, the encoder's maps,
resized to 64 x 64 and normalised: K clusters, one start, --iterations at most and no other stop.
Ours is counted from the maps to the ids (reduction, resizing, normalisation, clustering), theirs
from the points, which they are given. Every inertia is computed from the ids in the full space;
the mean over images is compared.
  exact   products and means on the small maps; nothing is lost
  pca     parts.pca_dims=96: so many directions, the same for all images, learned from --basis others beforehand
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from ssl_parts.data import ImageBank, build_dataset
from ssl_parts.encoders import Encoder, build_encoder
from ssl_parts.parts import (
    DatasetConfig,
    NoForegroundConfig,
    PerImageConfig,
    VotesConfig,
    discover_parts,
    hypercolumn,
    kmeans,
    part_stats,
)
from ssl_parts.parts.clustering.centroids import fit_centroids, nearest
from ssl_parts.parts.clustering.config import CentroidsConfig
from ssl_parts.parts.clustering.kmeans import Clusters, polish
from ssl_parts.parts.dense.hypercolumn import projected_hypercolumn
from ssl_parts.parts.dense.isometry import isometric, principal_directions
from ssl_parts.parts.dense.points import hypercolumn_points

SIZE, CELLS, POLISH, DIRECTIONS = 64, 512, 3, 96
INPUT = {"mobilenetv2_100": {"mean": [0.5] * 3, "std": [0.5] * 3, "pad_type": "same"}}
# docs/method.md, section 1.2; other encoders: all maps
HYPERCOLUMN = {"resnet50": ["stem", "layer1", "layer2", "layer3"]}
# x scikit-learn, x faiss, percent of inertia
BARS = {"last map": (40, 10, 0.1), "hypercolumn": (10, 4, 0.5)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="folder of photographs; without one, drawn birds")
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--weights", help="file; without one, random weights")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--basis", type=int, default=64)
    parser.add_argument("--k", type=int, default=15)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--centroids", action="store_true")
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args()
    if given.memory:
        memory()
        return
    if given.centroids:
        centroids()
        return
    torch.manual_seed(0)
    encoder = (
        build_encoder(given.encoder, given.weights, **INPUT.get(given.encoder, {}))
        .eval()
        .to(given.device)
    )
    dataset = build_dataset("folder" if given.root else "synthetic_birds", given.root, "train")
    weights = Path(given.weights).name if given.weights else "random weights"
    print(f"{given.encoder}, {weights}, 224 px, K={given.k}, {given.device}")
    bank = ImageBank(dataset, 224, "squash", cache="none")
    if given.device == "cpu":
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        against_others(encoder, bank, given)
    else:
        rates(encoder, bank, given)


# ---------------------------------------------------------------- CPU: against others


@torch.inference_mode()
def against_others(encoder: Encoder, bank: ImageBank, given: argparse.Namespace) -> None:
    rows = np.random.default_rng(0).permutation(len(bank))[: given.basis + given.images]
    stages = HYPERCOLUMN.get(given.encoder, list(encoder.stages))
    maps = [encoder(bank.images(rows[i : i + 8]).float() / 255, [*stages, encoder.last_stage]).maps
            for i in range(0, len(rows), 8)]  # fmt: skip
    maps = {stage: torch.cat([batch[stage] for batch in maps]) for stage in maps[0]}
    learn, test = ({stage: m[part] for stage, m in maps.items()} for part in
                   (slice(given.basis), slice(given.basis, None)))  # fmt: skip
    last = {encoder.last_stage: test[encoder.last_stage]}

    def exact(some: dict[str, Tensor], seeds_B: Tensor) -> Clusters:
        return kmeans(
            hypercolumn_points(some, SIZE), given.k, seeds_B, given.iterations, tolerance=0
        )

    def reduced(some: dict[str, Tensor], seeds_B: Tensor) -> Clusters:
        return kmeans(
            projected_hypercolumn(some, SIZE, basis_Dd),
            given.k,
            seeds_B,
            given.iterations,
            tolerance=0,
        )

    def polished(some: dict[str, Tensor], seeds_B: Tensor) -> Clusters:
        return polish(
            hypercolumn_points(some, SIZE), reduced(some, seeds_B).ids_BN, given.k, POLISH
        )

    compare("last map", "exact", last, exact, given)
    same_start(last, given)
    basis_Dd, share = shared_basis({stage: learn[stage] for stage in stages})
    several = {stage: test[stage] for stage in stages}
    compare("hypercolumn", "exact", several, exact, given)
    kept = f"pca, {basis_Dd.shape[1]} directions with {100 * share:.1f} % of the variance"
    compare("hypercolumn", kept, several, reduced, given)
    compare(
        "hypercolumn",
        f"{kept}, then {POLISH} iterations in the full space",
        several,
        polished,
        given,
    )


def same_start(maps: dict[str, Tensor], given: argparse.Namespace) -> None:
    """scikit-learn from one seed on the points and on their isometric coordinates: the reduction
    alone.
    """
    wide_BND = hypercolumn(maps, SIZE)
    narrow_BND = hypercolumn([isometric(map_BDhw) for map_BDhw in maps.values()], SIZE)
    inertia = []
    for i, points_ND in enumerate(wide_BND):
        found = [sklearn_ids(p.numpy(), given, i)[0] for p in (points_ND, narrow_BND[i])]
        inertia.append([inertia_of(points_ND, torch.from_numpy(ids_N)) for ids_N in found])
    wide, narrow = np.mean(inertia, 0)
    print(
        f"  scikit-learn on {narrow_BND.shape[2]} coordinates, same seeds: inertia {100 * (narrow / wide - 1):+.4f} %"
    )


def shared_basis(maps: dict[str, Tensor]) -> tuple[Tensor, float]:
    cells = torch.linspace(0, SIZE**2 - 1, CELLS).long()
    images = len(next(iter(maps.values())))
    some = [
        hypercolumn({s: m[i : i + 1] for s, m in maps.items()}, SIZE)[0, cells]
        for i in range(images)
    ]
    return principal_directions(torch.stack(some), DIRECTIONS)


def compare(
    name: str, reduction: str, maps: dict[str, Tensor], ours: Callable, given: argparse.Namespace
) -> None:
    """Time and inertia of the three on the same images, in turns."""
    images = len(next(iter(maps.values())))
    seconds, inertia, rounds = (
        {side: [] for side in ("ours", "scikit-learn", "faiss")} for _ in range(3)
    )

    channels = 0
    for at in range(0, images, 8):
        some = {stage: m[at : at + 8] for stage, m in maps.items()}
        points_BND = hypercolumn(some, SIZE)
        channels = points_BND.shape[2]
        found, spent = clocked(ours, some, torch.arange(at, at + len(points_BND)))
        seconds["ours"].append(spent / len(points_BND))
        rounds["ours"] += found.iterations_B.tolist()
        inertia["ours"] += [
            inertia_of(points, ids) for points, ids in zip(points_BND, found.ids_BN)
        ]
        for i, points_ND in enumerate(points_BND):
            for side, cluster in (("scikit-learn", sklearn_ids), ("faiss", faiss_ids)):
                (ids_N, iterations), spent = clocked(cluster, points_ND.numpy(), given, at + i)
                seconds[side].append(spent)
                rounds[side].append(iterations)
                inertia[side].append(inertia_of(points_ND, torch.from_numpy(ids_N)))
    shape = " + ".join(f"{m.shape[1]}x{m.shape[2]}x{m.shape[3]}" for m in maps.values())
    print(
        f"\n{name}, {reduction}: {images} images of {channels} channels at {SIZE} x {SIZE} ({shape})"
    )
    for side in seconds:
        line = f"  {side:<13} {1000 * statistics.mean(seconds[side]):8.1f} ms an image"
        line += f"   inertia {statistics.mean(inertia[side]):10.2f}   {statistics.mean(rounds[side]):5.1f} iterations"
        if side != "ours":
            times = statistics.mean(seconds[side]) / statistics.mean(seconds["ours"])
            more = 100 * (statistics.mean(inertia["ours"]) / statistics.mean(inertia[side]) - 1)
            line += f"   ours: {times:.1f} x as fast, inertia {more:+.2f} %"
        print(line)
    print(
        f"  wanted: {BARS[name][0]} x scikit-learn, {BARS[name][1]} x faiss, inertia within {BARS[name][2]} %"
    )


def sklearn_ids(
    points_ND: np.ndarray, given: argparse.Namespace, seed: int
) -> tuple[np.ndarray, int]:
    found = KMeans(given.k, n_init=1, max_iter=given.iterations, tol=0, random_state=seed).fit(  # pyright: ignore[reportArgumentType]
        points_ND
    )
    return np.asarray(found.labels_, dtype=np.int64), int(found.n_iter_)


def faiss_ids(
    points_ND: np.ndarray, given: argparse.Namespace, seed: int
) -> tuple[np.ndarray, int]:
    """faiss with its subsampling off."""
    clustering = faiss.Kmeans(
        points_ND.shape[1], given.k, niter=given.iterations, seed=seed + 1,
        min_points_per_centroid=1, max_points_per_centroid=len(points_ND),
    )  # fmt: skip
    clustering.train(points_ND)
    index, inertias = clustering.index, clustering.obj
    assert index is not None and inertias is not None, "train() sets both"
    return index.search(points_ND, 1)[1][:, 0], len(inertias)


def inertia_of(points_ND: Tensor, ids_N: Tensor) -> float:
    onehot_KN = torch.nn.functional.one_hot(ids_N).T.double()
    points_ND = points_ND.double()
    means_KD = onehot_KN @ points_ND / onehot_KN.sum(1, keepdim=True).clamp_min(1)
    return float((points_ND - means_KD[ids_N]).square().sum())


def clocked(act: Callable, *given: object) -> tuple:
    """What it returns, and the processor's seconds."""
    began = time.process_time()
    result = act(*given)
    return result, time.process_time() - began


# ---------------------------------------------------------------- GPU: images a second


def rates(encoder: Encoder, bank: ImageBank, given: argparse.Namespace) -> None:
    """The clustering alone, the encoder alone and the whole pass, over copies of a few images kept
    in memory.
    """
    count = 2048
    images_BCHW = bank.images(np.arange(64) % len(bank))
    stages = HYPERCOLUMN.get(given.encoder, list(encoder.stages))

    def encode() -> dict[str, Tensor]:
        return encoder(images_BCHW.to(given.device).float() / 255, stages).maps

    with torch.inference_mode():
        maps = encode()
        alone = 64 / walled(
            lambda: kmeans(hypercolumn_points(maps, SIZE), given.k, torch.arange(64))
        )
        encoding = 64 / walled(encode)
    config = PerImageConfig(stages=stages, size=SIZE, k=given.k, foreground=NoForegroundConfig())
    repeated = Repeated(images_BCHW, count)
    whole = count / walled(
        lambda: discover_parts(encoder, repeated, config, device=given.device), times=1
    )
    print(
        f"discovery without the encoder {alone:.0f} images/s (wanted: 2,000); encoder alone {encoding:.0f} images/s"
    )
    print(
        f"whole pass {whole:.0f} images/s, {100 * whole / encoding:.0f} % of the encoder alone (wanted: 70 %)"
    )


def walled(act: Callable, times: int = 5) -> float:
    """Median seconds on the wall, after a warm-up."""
    act()
    spent = []
    for _ in range(times):
        torch.cuda.synchronize()
        began = time.perf_counter()
        act()
        torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


class Repeated:
    """A data set of any length from a few images."""

    def __init__(self, images_BCHW: Tensor, count: int) -> None:
        self.pixels, self.size = images_BCHW, images_BCHW.shape[-1]
        self.paths = [f"image {i}" for i in range(count)]

    def __len__(self) -> int:
        return len(self.paths)

    def images(self, indices: np.ndarray) -> Tensor:
        return self.pixels[torch.from_numpy(np.asarray(indices)) % len(self.pixels)]


# ---------------------------------------------------------------- one clustering of a data set


def centroids(points: int = 64_000) -> None:
    """Processor time and inertia of parts.backend, on unit vectors around three times k centres."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    print(f"{points} points, parts.restarts=3, one core; inertia as a share of torch's")
    for channels, k in ((96, 8), (320, 16), (1024, 16), (320, 64)):
        middle_CD = torch.randn(3 * k, channels, generator=generator)
        which_P = torch.randint(0, 3 * k, (points,), generator=generator)
        noise_PD = torch.randn(points, channels, generator=generator)
        points_PD = torch.nn.functional.normalize(middle_CD[which_P] + noise_PD, dim=1)
        found = {}
        for backend in ("torch", "faiss"):
            config = CentroidsConfig(backend=backend)
            centroids_KD, seconds = clocked(fit_centroids, points_PD, k, 0, config)
            found[backend] = seconds, inertia_of(points_PD, nearest(points_PD, centroids_KD))
        (ours, most), (theirs, other) = found["torch"], found["faiss"]
        print(
            f"  {channels:4} channels, k={k:2}: torch {ours:5.2f} s, faiss {theirs:5.2f} s, "
            f"inertia {100 * (other / most - 1):+.1f} %",
            flush=True,
        )


# ---------------------------------------------------------------- memory


def memory() -> None:
    """Peak resident memory of a process that discovers parts of so many images, onto disk."""
    print("tiny ResNet-18, 32 px, ids 16 x 16, method dataset; a process each")
    for count in (1_000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            context = multiprocessing.get_context("spawn")
            answer = context.Queue()
            process = context.Process(target=discover_many, args=(count, folder, answer))
            process.start()
            before, after = answer.get()
            process.join()
        print(
            f"{count:>7} images: {after:7.1f} MiB at the peak, {before:.1f} MiB before discovery",
            flush=True,
        )


def discover_many(count: int, folder: str, answer: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", small=True, width=0.125)
    images = Repeated(torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8), count)
    foreground = VotesConfig(size=8, sample=64)
    config = DatasetConfig(k=4, size=16, sample_images=64, foreground=foreground)
    # what every discovery takes, whatever its length
    discover_parts(encoder, Repeated(images.pixels, 200), config)
    before = peak()
    part_stats(discover_parts(encoder, images, config, Path(folder) / "parts"))
    answer.put((before, peak()))


def peak() -> float:
    """Peak resident memory of this process in MiB (ru_maxrss of Linux is in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
