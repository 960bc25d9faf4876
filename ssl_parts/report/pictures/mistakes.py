"""Which classes the encoder takes for one another, and the mistakes it is surest of.

Shapes: Q test images, C classes.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ssl_parts.encoders.pictures import enlarged
from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts import discover_parts
from ssl_parts.parts.palette import overlay
from ssl_parts.report.pictures.album import Album, Shots, strip
from ssl_parts.report.pictures.looks import Looks

PAIRS, CLASSES, FAILURES, SIDE = 6, 8, 9, 96


@dataclass(frozen=True)
class Guesses:
    """A probe's answer for each query: the class, and how sure it is."""

    label_Q: np.ndarray
    probability_Q: np.ndarray


def draw_mistakes(album: Album, looks: Looks) -> None:
    """Sections "confusion" and "failures"; without labels or test images, a sentence each."""
    confusion = album.section("confusion", "Most confused classes")
    failures = album.section("failures", "Failures")
    why = _why_not(looks)
    if why:
        confusion.gaps.append(why)
        failures.gaps.append(why)
        return
    guesses = {name: probe(looks, name) for name in looks.encoders}
    truth = looks.queries.labels
    hits = {name: 100 * (found.label_Q == truth).mean() for name, found in guesses.items()}
    said = (
        f"Logistic regression on {len(looks.gallery)} training images, {len(truth)} test images: right on "
        f"{hits['before']:.1f} % with the encoder before, {hits['after']:.1f} % after."
    )
    confusion.texts.append(said)
    failures.texts.append(
        "The wrong answers that the probe is surest of: image, its parts, a training image of the guess."
    )
    pairs = confused_pairs(truth, guesses["after"].label_Q)[:PAIRS]
    if not pairs:
        confusion.gaps.append("No test image is confused.")
        failures.gaps.append("No test image is answered wrongly.")
        return
    confusion.table = _matrix(looks, truth, guesses["after"].label_Q, pairs)
    for a, b in pairs:
        album.add(confusion, _pair_picture(looks, guesses, a, b), *_pair_said(looks, guesses, a, b))
    _draw_failures(album, failures, looks, guesses["after"])


def _why_not(looks: Looks) -> str:
    if looks.own:
        return "There are no test images."
    if not looks.labelled:
        return "The images have no labels."
    if len(np.unique(looks.gallery.labels)) < 2:
        return "The training images are of one class."
    return ""


def probe(looks: Looks, name: str) -> Guesses:
    """Logistic regression (C of the evaluation) on standardised features of the gallery, asked
    about the queries.
    """
    train, test = looks.gallery_vectors[name], looks.query_vectors[name]
    mean, scale = train.mean(0), train.std(0).clip(1e-9)
    model = LogisticRegression(C=looks.run.config.evaluation.linear.c, max_iter=300)
    with warnings.catch_warnings():
        # a picture does not need the last digit
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((train - mean) / scale, looks.gallery.labels)
    chances = model.predict_proba((test - mean) / scale)
    return Guesses(model.classes_[chances.argmax(1)], chances.max(1))


def confused_pairs(truth_Q: np.ndarray, guess_Q: np.ndarray) -> list[tuple[int, int]]:
    """(class, class it is taken for), most frequent first, by the share of the class's images,
    then by name.
    """
    wrong = truth_Q != guess_Q
    pairs, counts = np.unique(
        np.stack([truth_Q[wrong], guess_Q[wrong]], 1), axis=0, return_counts=True
    )
    totals = np.array([(truth_Q == a).sum() for a, _ in pairs])
    order = (
        np.lexsort((pairs[:, 1], pairs[:, 0], -counts / totals.clip(1), -counts))
        if len(pairs)
        else []
    )
    return [(int(pairs[i, 0]), int(pairs[i, 1])) for i in order]


def _matrix(
    looks: Looks, truth: np.ndarray, guess: np.ndarray, pairs: Sequence[tuple[int, int]]
) -> dict:
    """Counts among the classes of the most confused pairs, as a table."""
    classes = list(dict.fromkeys(label for pair in pairs for label in pair))[:CLASSES]
    rows = []
    for i, a in enumerate(classes):
        mine = guess[truth == a]
        counts = [int((mine == b).sum()) for b in classes]
        rows.append(
            [f"{i + 1} {looks.class_name(a)}", *counts, int((~np.isin(mine, classes)).sum())]
        )
    heads = ["is \\ taken for", *(str(i + 1) for i in range(len(classes))), "others"]
    return {
        "heads": heads,
        "rows": rows,
        "caption": "Test images of each class (row) by the probe's answer (column).",
    }


def _pair_picture(looks: Looks, guesses: dict[str, Guesses], a: int, b: int) -> Tensor:
    """Above: test images of a taken for b. Below: training images of b."""
    wrong = np.flatnonzero((looks.queries.labels == a) & (guesses["after"].label_Q == b))[:4]
    columns = max(2, len(wrong))
    other = np.flatnonzero(looks.gallery.labels == b)[:columns]
    lines = [
        _filled(enlarged(bank.images(rows), SIDE), columns)
        for bank, rows in ((looks.queries, wrong), (looks.gallery, other))
    ]
    return strip([tile for line in lines for tile in line], columns)


def _filled(tiles: Tensor, count: int) -> list[Tensor]:
    return [*tiles, *[torch.full_like(tiles[0], 128)] * (count - len(tiles))]


def _pair_said(looks: Looks, guesses: dict[str, Guesses], a: int, b: int) -> tuple[str, str]:
    mine = looks.queries.labels == a
    after, before = (int((guesses[name].label_Q[mine] == b).sum()) for name in ("after", "before"))
    title = f"{looks.class_name(a)} taken for {looks.class_name(b)}"
    rows = "Above: those test images. Below: training images of the guess."
    return title, f"{after} of {int(mine.sum())} (before: {before}). {rows}"


def _draw_failures(album: Album, section: Shots, looks: Looks, guesses: Guesses) -> None:
    wrong = np.flatnonzero(guesses.label_Q != looks.queries.labels)
    rows = wrong[np.argsort(-guesses.probability_Q[wrong], kind="stable")][:FAILURES]
    images = enlarged(looks.queries.images(rows), SIDE + 32)
    drawn = _with_parts(looks, rows, images)
    for i, row in enumerate(rows):
        guess, truth = int(guesses.label_Q[row]), int(looks.queries.labels[row])
        same = np.flatnonzero(looks.gallery.labels == guess)
        nearest = same[
            np.argmax(looks.gallery_vectors["after"][same] @ looks.query_vectors["after"][row])
        ]
        example = enlarged(looks.gallery.images([nearest]), SIDE + 32)[0]
        tiles = [images[i], *([drawn[i]] if drawn else []), example]
        title = f"{looks.class_name(truth)} taken for {looks.class_name(guess)}"
        album.add(
            section,
            strip(tiles, len(tiles)),
            title,
            f"Probability {guesses.probability_Q[row]:.2f}.",
        )


def _with_parts(looks: Looks, rows: np.ndarray, images: Tensor) -> list[Tensor]:
    """The images with parts as the last round's discovery finds them; [] where it cannot
    (foreground from masks).
    """
    run, last = looks.run, looks.run.rounds_trained - 1
    device = run.accelerator.device
    try:
        bank = looks.queries.subset(rows)
        encoder = run.encoder(run.finder_of(last))
        found = discover_parts(encoder, bank, run.config.parts, device=device, fitted=looks.store)
    except PartDiscoveryError:
        return []
    return [overlay(images[i], found[i], found.k, found.background) for i in range(len(rows))]
