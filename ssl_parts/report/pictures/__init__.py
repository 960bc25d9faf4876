"""Pictures of a finished run that need its encoders and its images, for its report."""

from ssl_parts.recipes.run import MeasuredRun
from ssl_parts.report.pictures.album import INDEX, Album
from ssl_parts.report.pictures.atlas import draw_atlas
from ssl_parts.report.pictures.before_after import (
    draw_components,
    draw_neighbours,
    draw_rounds,
    draw_views,
)
from ssl_parts.report.pictures.looks import look_at
from ssl_parts.report.pictures.mistakes import draw_mistakes

__all__ = ["report_pictures"]


def report_pictures(run: MeasuredRun) -> None:
    """Draw into `run.folder/pictures`: parts by round, part atlas, two views, components,
    neighbours, mistakes.

    At most 1,500 training and 500 test images are looked at, whatever the size of the data set.
    Done once: when pictures/index.json is there, nothing is done.

    Raises:
        DataError, WeightsError, PartDiscoveryError: images, encoders or parts of the run are gone
            or damaged.
    """
    folder = run.folder / "pictures"
    if (folder / INDEX).exists():
        return
    album, looks = Album(folder), look_at(run)
    for draw in (
        draw_rounds,
        draw_atlas,
        draw_components,
        draw_neighbours,
        draw_mistakes,
        draw_views,
    ):
        draw(album, looks)
    album.close()
