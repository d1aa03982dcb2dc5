"""The plot of certified accuracy against epsilon."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from kreludomain.run.output.figures import colour, figure_files, new_figure
from kreludomain.run.radius.rows import Accuracy, Curve


def accuracy_figure(curves: Accuracy, label: str, epsilons: Sequence[float]) -> dict[str, bytes]:
    """``certified_accuracy.png`` and ``certified_accuracy.svg``. ``label``: of the epsilon axis."""
    figure = new_figure(8, 5)
    axes = figure.subplots()
    draw_accuracy(axes, curves, epsilons)
    axes.set(xlabel=label, ylabel="share of all samples")
    axes.set_title("Certified accuracy: the claim is proved for every input within epsilon", fontsize=11)
    axes.legend(frameon=False, loc="upper right", fontsize=9)
    return figure_files("certified_accuracy", figure)


def draw_accuracy(axes: Axes, curves: Accuracy, epsilons: Sequence[float]) -> None:
    """A step curve a method, above them that of the attack, between the highest and that what is not known."""
    finite = [radius for curve in (*curves.certified, curves.attacked) for radius in curve.radii if radius < math.inf]
    end = 1.08 * max((*finite, *epsilons), default=1.0) or 1.0
    places = sorted({0.0, end, *finite})
    best = [max(curve(place) for curve in curves.certified) for place in places]
    upper = [curves.attacked(math.nextafter(place, math.inf)) for place in places]
    axes.fill_between(places, _left(best), upper, step="post", color="0.9", linewidth=0, label="not known")
    axes.plot(
        *_steps(curves.attacked, end), color="#b3001b", linestyle="--", linewidth=1.5, label="no counterexample found"
    )
    for position, curve in enumerate(curves.certified):
        axes.plot(*_steps(curve, end), color=colour(position), linewidth=1.8, label=f"certified: {curve.name}")
    for epsilon in epsilons:
        axes.axvline(epsilon, color="0.75", linewidth=0.8, zorder=0)
    axes.set(xlim=(0, end), ylim=(0, 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.25)


def _left(values: Sequence[float]) -> list[float]:
    """The values right of each place of a step function that is continuous from the left."""
    return [*values[1:], values[-1]]


def _steps(curve: Curve, end: float) -> tuple[list[float], list[float]]:
    """The corners of a curve, from the share at 0 on."""
    x, y = [0.0], [curve(0.0)]
    for radius in sorted({radius for radius in curve.radii if radius < math.inf}):
        x += [radius, radius]
        y += [curve(radius), curve(math.nextafter(radius, math.inf))]
    return [*x, end], [*y, y[-1]]
