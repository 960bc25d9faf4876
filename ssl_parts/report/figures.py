"""Figures as inline SVG: text stays text, and it takes the page's colour, so one figure serves
light and dark.

A picture beside a table (`measures_picture`) is a PNG of its own.
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.results import Measure
from evaluation.tables import scale_of

INK = "#010203"  # stands for the page's text colour until the SVG is written
# Told apart with any colour vision, readable on white and on near black; dashes say the same
# without colour.
SERIES = ("#2f86d1", "#e0782f", "#2aa57a", "#c064a8", "#a8921c", "#7d7d7d")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
POINTS = 400  # of a curve; longer ones are thinned

Curve = tuple[Sequence[float], Sequence[float]]


def line_chart(curves: Mapping[str, Curve], label: str, logarithmic: bool = False) -> str:
    """Curves over steps as one SVG.

    Args:
        curves: name → (x, y); values that are not finite leave a gap.
        label: what the figure shows, for screen readers.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.2, 2.7), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, (x, y)) in enumerate(curves.items()):
            x, y = _thin(x), _thin(y)
            marker = "o" if len(x) < 12 else None
            look = {"color": SERIES[i % len(SERIES)], "linestyle": DASHES[i % len(DASHES)]}
            axes.plot(x, y, label=name, marker=marker, markersize=3, linewidth=1.6, **look)
        if logarithmic:
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if len(curves) > 1:
            axes.legend(loc="best", frameon=False, fontsize=8)
        _bare(axes)
        return _svg(figure, label)


def measure_chart(arms: Mapping[str, Measure], label: str) -> str:
    """One measure over arms, in percent: each repetition a dot, the mean a bar, its 95 % interval
    or deviation a line.

    Args:
        arms: name → measure.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.2, 0.75 + 0.5 * len(arms)), layout="constrained")
        axes = figure.add_subplot()
        _draw_measure(axes, list(arms.values()))
        axes.set_yticks([-i for i in range(len(arms))], list(arms))
        _bare(axes)
        return _svg(figure, label)


def measures_picture(
    arms: Mapping[str, Mapping[str, Measure]], columns: Mapping[str, str], path: Path
) -> None:
    """A PNG of a table over seeds: a panel a measure, an arm a line, each seed a dot, the mean a
    bar, ± sd a band.

    Args:
        arms: arm → key → measure.
        columns: key → heading; those that no arm has are left out.
    """
    keys = [key for key in columns if any(key in values for values in arms.values())]
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(
            figsize=(2.2 + 2.6 * len(keys), 0.9 + 0.4 * len(arms)), layout="constrained", dpi=150
        )
        panels = figure.subplots(1, max(1, len(keys)), sharey=True, squeeze=False)[0]
        for axes, key in zip(panels, keys, strict=False):
            _draw_measure(axes, [values.get(key) for values in arms.values()])
            axes.set_title(columns[key], fontsize=9)
            _bare(axes)
        panels[0].set_yticks([-i for i in range(len(arms))], list(arms))
        figure.savefig(path, format="png", metadata={"Software": None})


def _draw_measure(axes: Axes, measures: Sequence[Measure | None]) -> None:
    """One line a measure, from the top; None leaves its line empty."""
    for i, measure in enumerate(measures):
        if measure is None:
            continue
        scale = scale_of(measure.unit)
        y, colour, mean = -i, SERIES[i % len(SERIES)], scale * measure.mean
        spread = _spread(measure)
        if spread is not None:
            axes.plot(spread, [y, y], color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt")
        axes.plot(
            [scale * v for v in measure.values],
            [y] * len(measure.values),
            "o",
            color=colour,
            markersize=4,
        )
        axes.plot([mean, mean], [y - 0.28, y + 0.28], color=INK, linewidth=2)
    axes.set_ylim(-len(measures) + 0.4, 0.6)
    axes.set_xlabel("percent")


def _spread(measure: Measure) -> tuple[float, float] | None:
    scale = scale_of(measure.unit)
    if measure.interval:
        low, high = measure.interval
        return scale * low, scale * high
    if measure.sd is not None:
        return scale * (measure.mean - measure.sd), scale * (measure.mean + measure.sd)
    return None


def _thin(values: Sequence[float]) -> list[float]:
    """Every n-th value and always the last."""
    step = max(1, len(values) // POINTS)
    kept = list(values[::step])
    return kept if (len(values) - 1) % step == 0 else [*kept, values[-1]]


_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ssl-parts",  # the same figure gives the same bytes
    "font.family": "sans-serif",
    "font.size": 9,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
}


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    axes.patch.set_alpha(0)


def _svg(figure: Figure, label: str) -> str:
    """The figure without prolog, metadata and fixed size, in the colours of the page around it."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()[out.getvalue().index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).replace(INK, "currentColor")
    text = re.sub(r'font: ([\d.]+)px [^;"]*', r"font: \1px inherit; font-family: inherit", text)
    size = re.search(r'viewBox="[^"]*"', text)
    described = label.replace("&", "and").replace('"', "'").replace("<", "").replace(">", "")
    head = f'<svg {size.group() if size else ""} role="img" aria-label="{described}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return head + text[text.index(">") + 1 :].strip()
