"""The same images before and after training: parts by round, two views, principal components,
nearest neighbours.

Shapes: Q queries, G gallery images, D channels.
"""

import numpy as np
import torch
from torch import Tensor

from ssl_parts.data import evenly_spaced
from ssl_parts.encoders.pictures import aligned, as_colours, enlarged, last_map, principal_scores
from ssl_parts.parts import PartStore
from ssl_parts.parts.palette import overlay
from ssl_parts.report.pictures.album import Album, framed, strip
from ssl_parts.report.pictures.looks import Looks
from ssl_parts.views import make_views, plan_views

IMAGES, SIDE, NEIGHBOURS = 12, 128, 5
SMALL = 96  # side of a tile where six stand in a row
SAME = (47, 134, 209)


def draw_rounds(album: Album, looks: Looks) -> None:
    """A card an image: the photograph, then its parts in every round."""
    section = album.section(
        "rounds",
        "Parts, round by round",
        "From left to right: the photograph, then its parts in round 0, 1, ... Background is left as it is.",
    )
    if looks.store.scope == "image":
        section.texts.append(
            "Parts were found in each image by itself: a colour means nothing in another image."
        )
    run = looks.run
    stores = [
        PartStore.open(run.round_folder(number) / "parts") for number in range(run.rounds_trained)
    ]
    rows = evenly_spaced(len(run.bank), IMAGES)
    for row, image in zip(rows, run.bank.images(rows), strict=True):
        large = enlarged(image[None], SIDE)[0]
        drawn = [overlay(large, store[row], store.k, store.background) for store in stores]
        album.add(
            section, strip([large, *drawn], min(1 + len(drawn), 4)), _name(run.bank.paths[row])
        )


def draw_views(album: Album, looks: Looks, images: int = 6) -> None:
    """Two views as training sees them, each beside the ids that moved along."""
    section = album.section(
        "views",
        "Two views and their parts",
        "What training compares: two views of an image, each beside its ids. An id must lie on the same thing in both.",
    )
    run, store = looks.run, looks.store
    rows = evenly_spaced(len(run.bank), images)
    config = run.config.views
    plan = plan_views(len(rows), config, run.config.run.seed, 0)
    views = make_views(
        run.bank.images(rows), store.batch(rows), plan, config, store.k, store.background
    )
    ids_Ngg = views.ids_Ngg
    assert ids_Ngg is not None, "these views were made with ids"
    pixels = (255 * views.images_NCHW.clamp(0, 1)).round().to(torch.uint8)
    large = enlarged(pixels, SIDE)
    for i, row in enumerate(rows):
        pair = (i, i + len(rows))
        tiles = [
            t
            for j in pair
            for t in (large[j], overlay(large[j], ids_Ngg[j], store.k, store.background))
        ]
        both = set(ids_Ngg[pair[0]].unique().tolist()) & set(ids_Ngg[pair[1]].unique().tolist())
        shared = len(both - {store.background})
        album.add(
            section,
            strip(tiles, 4),
            _name(run.bank.paths[row]),
            f"{shared} parts are in both views.",
        )


def draw_components(album: Album, looks: Looks) -> None:
    """Photograph, first three components before, and after."""
    section = album.section(
        "components",
        "Principal components before and after",
        "From left to right: the photograph, the encoder before, the encoder after. The first three principal "
        "components of the last map, over all these images together, as red, green and blue: one colour is one kind of "
        "feature in every image. The colours after are turned to match those before as well as they can.",
    )
    bank, device = looks.run.bank, looks.run.accelerator.device
    rows = evenly_spaced(len(bank), IMAGES)
    images = bank.images(rows)
    before, after = (
        principal_scores(last_map(looks.encoders[name], images, device))
        for name in ("before", "after")
    )
    drawn = zip(
        enlarged(images, SIDE),
        as_colours(before, SIDE),
        as_colours(aligned(after, before), SIDE),
        strict=True,
    )
    for row, tiles in zip(rows, drawn, strict=True):
        album.add(section, strip(list(tiles), 3), _name(bank.paths[row]))


def draw_neighbours(album: Album, looks: Looks, queries: int = 9) -> None:
    """A card a query: the query and its nearest gallery images, before above, after below."""
    section = album.section(
        "neighbours",
        "Nearest neighbours before and after",
        f"Left: a {'training' if looks.own else 'test'} image. Right: the {NEIGHBOURS} most similar training images "
        "(cosine of pooled features); above with the encoder before, below with the encoder after.",
    )
    near = {name: _nearest(looks, name) for name in looks.encoders}
    if looks.labelled:
        shares = {name: 100 * _same(looks, found).mean() for name, found in near.items()}
        section.texts.append(
            f"Framed: of the same class. Over {len(looks.queries)} images "
            f"{shares['before']:.1f} % of the {NEIGHBOURS} neighbours are of the same class before, "
            f"{shares['after']:.1f} % after."
        )
    for q in evenly_spaced(len(looks.queries), queries):
        lines = [_line(looks, q, near[name][q]) for name in ("before", "after")]
        album.add(
            section,
            strip([tile for line in lines for tile in line], 1 + NEIGHBOURS),
            *_said(looks, q, near),
        )


def _nearest(looks: Looks, name: str) -> np.ndarray:
    """Positions in the gallery (Q, NEIGHBOURS), most similar first, a query itself left out."""
    cosine_QG = looks.query_vectors[name] @ looks.gallery_vectors[name].T
    if looks.own:
        np.fill_diagonal(cosine_QG, -np.inf)
    count = min(NEIGHBOURS, cosine_QG.shape[1] - looks.own)
    return np.argsort(-cosine_QG, axis=1, kind="stable")[:, :count]


def _same(looks: Looks, found_Qn: np.ndarray) -> np.ndarray:
    return looks.gallery.labels[found_Qn] == looks.queries.labels[:, None]


def _line(looks: Looks, query: int, found_n: np.ndarray) -> list[Tensor]:
    """The query and its neighbours as small tiles, those of its class framed."""
    tiles = enlarged(
        torch.cat([looks.queries.images([query]), looks.gallery.images(found_n)]), SMALL
    )
    if not looks.labelled:
        return list(tiles)
    same = looks.gallery.labels[found_n] == looks.queries.labels[query]
    return [tiles[0], *(framed(t, SAME) if s else t for t, s in zip(tiles[1:], same, strict=True))]


def _said(looks: Looks, query: int, near: dict[str, np.ndarray]) -> tuple[str, str]:
    if not looks.labelled:
        return _name(looks.queries.paths[query]), ""
    right = {
        n: int((looks.gallery.labels[found[query]] == looks.queries.labels[query]).sum())
        for n, found in near.items()
    }
    name = looks.class_name(looks.queries.labels[query])
    return name, f"Same class: {right['before']} of {NEIGHBOURS} before, {right['after']} after."


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]
