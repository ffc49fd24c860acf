"""A run as one SVG: ratios by case, and time of a unit over how many there are.

The same results give the same bytes: no date, no random ids. Text is drawn as
shapes, so the file looks the same everywhere and needs no font.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import LIMITS, OURS
from benchmarks.growth import Series, find_series
from benchmarks.results import CaseResult, Results
from benchmarks.statistics import Spread

__all__ = ["PlotError", "draw"]

# Colours that people tell apart who do not see all of them (Okabe and Ito).
STYLES = {
    "asgiref": ("#D55E00", "o"),
    "a2wsgi": ("#0072B2", "s"),
    "uvicorn": ("#009E73", "^"),
    "starlette": ("#CC79A7", "v"),
    "hypercorn": ("#E69F00", "D"),
    "bare hop": ("#777777", "|"),
    "gunicorn gthread": ("#56B4E9", "P"),
    "gunicorn gthread 40": ("#56B4E9", "p"),
    "granian WSGI": ("#8C564B", "X"),
    "waitress": ("#999933", "*"),
    OURS: ("#000000", "o"),
}
# `no hop` measures the client and would stretch the axis.
TITLES = {
    "asyncio": "In one process, on asyncio: wsgi-asgi is ... times as fast as",
    "behind uvicorn": "Behind uvicorn: wsgi-asgi is ... times as fast as",
}
LINEAR_UP_TO = 100
WIDTH_IN, ROW_IN, GROWTH_IN = 9.0, 0.45, 3.0


class PlotError(Exception):
    """There is nothing to draw, or nothing to draw it with."""


def draw(results: Results, path: Path) -> None:
    """Write the plot.

    Raises:
        PlotError: matplotlib is not installed, or the results have no ratios.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotError(
            "matplotlib is not installed; the group `bench` has it"
        ) from None
    panels = [(setting, _cases(results, setting)) for setting in TITLES]
    panels = [(setting, cases) for setting, cases in panels if cases]
    series = find_series(results.cases)
    if not panels and not series:
        raise PlotError("there are no ratios to draw")
    style: Any = {"svg.hashsalt": "wsgi-asgi", "svg.fonttype": "path", "font.size": 8.0}
    with mpl.rc_context({**mpl.rcParamsDefault, **style}):
        heights = [1.2 + ROW_IN * len(cases) for _, cases in panels]
        heights += [GROWTH_IN] if series else []
        figure: Any = Figure(figsize=(WIDTH_IN, sum(heights)), layout="constrained")
        rows = figure.subfigures(len(heights), height_ratios=heights, squeeze=False)
        for row, (setting, cases) in zip(rows[:, 0], panels, strict=False):
            _draw_ratios(row.subplots(), setting, cases)
        if series:
            _draw_growth(rows[-1, 0], series)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _cases(results: Results, setting: str) -> list[CaseResult]:
    return [
        case
        for case in results.cases
        if case.setting == setting and not case.growth and OURS in case.rates
    ]


def _ratio(case: CaseResult, name: str) -> Spread | None:
    """Give the ratio that is shown; a limit passes large bodies on unseen."""
    if name in LIMITS and case.unit == "MB":
        return None
    return case.ratio(name)


def _draw_ratios(axes: Any, setting: str, cases: Sequence[CaseResult]) -> None:
    shown = [
        name for name in STYLES if name != OURS and any(_ratio(c, name) for c in cases)
    ]
    for place, name in enumerate(shown):
        colour, marker = STYLES[name]
        # Side by side within a case's row, so that none hides another.
        shift = (place + 0.5) / len(shown) * 0.8 - 0.4
        points = [(row, _ratio(case, name)) for row, case in enumerate(cases)]
        found = [(row + shift, ratio) for row, ratio in points if ratio]
        middles = [ratio.median for _, ratio in found]
        axes.errorbar(
            middles,
            [row for row, _ in found],
            xerr=[
                [ratio.median - ratio.low for _, ratio in found],
                [ratio.high - ratio.median for _, ratio in found],
            ],
            fmt=marker,
            color=colour,
            markersize=4.5,
            elinewidth=0.9,
            label=name,
        )
    for row in range(0, len(cases), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F3F3F3", zorder=0)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}x")
    axes.xaxis.set_minor_formatter(_minor_tick)
    axes.set_yticks(range(len(cases)), [case.title for case in cases])
    axes.set_ylim(len(cases) - 0.5, -0.5)
    axes.set_title(TITLES[setting], loc="left")
    axes.grid(axis="x", linewidth=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _minor_tick(value: float, position: int) -> str:
    """Label twice and five times the powers of ten."""
    return f"{value:g}x" if f"{value:e}"[0] in "25" else ""


def _draw_growth(figure: Any, found: Sequence[Series]) -> None:
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, series in zip(panels, found, strict=True):
        for name in [one for one in STYLES if one in series.seconds]:
            colour, marker = STYLES[name]
            times = sorted(series.seconds[name].items())
            axes.plot(
                [size for size, _ in times],
                [seconds * 1e6 for _, seconds in times],
                color=colour,
                marker=marker,
                markersize=3.5,
                linewidth=2 if name == OURS else 0.9,
                label=name,
            )
        axes.set_xscale("log")
        _scale_times(axes, series)
        axes.set_xlabel(series.name)
        axes.set_title(f"µs for one {series.unit}", loc="left")
        axes.grid(linewidth=0.3)
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _scale_times(axes: Any, series: Series) -> None:
    """Show times from nothing on, unless they differ too much for that."""
    times = [t for by_size in series.seconds.values() for t in by_size.values()]
    if max(times) > LINEAR_UP_TO * min(times):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
