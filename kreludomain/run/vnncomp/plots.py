"""The cactus plot of a benchmark: how many instances are solved if each has so many seconds."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from kreludomain.run.output.figures import figure_files, new_figure
from kreludomain.run.vnncomp.rows import InstanceRow


def cactus(rows: Sequence[InstanceRow]) -> dict[str, bytes]:
    """``cactus.png`` and ``cactus.svg``: a line a family, and one for all of them."""
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    families = list(dict.fromkeys(row.family for row in rows))
    for family in [*families, *([None] if len(families) > 1 else [])]:
        here = [row for row in rows if family in (None, row.family)]
        seconds = sorted(row.seconds for row in here if row.solved)
        style = {"color": "black", "linewidth": 1.6} if family is None else {"linewidth": 1.2}
        label = f"{family or 'all'} ({len(seconds)} of {len(here)})"
        axes.plot(range(1, len(seconds) + 1), seconds, marker="o", markersize=3, label=label, **style)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="instances solved", ylabel="seconds for each", title="Solved instances, the quickest first")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure_files("cactus", figure)
