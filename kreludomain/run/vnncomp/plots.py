"""The cactus plot of a benchmark: how many instances are solved if each has so many seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kreludomain.run.vnncomp.instances import Outcome


def save_cactus(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes ``cactus.png`` and ``cactus.svg`` into a folder: a line a family, and one for all of them."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)  # no window system is needed
    axes = figure.subplots()
    families = list(dict.fromkeys(o.family for o in outcomes))
    for family in [*families, *([None] if len(families) > 1 else [])]:
        here = [o for o in outcomes if family in (None, o.family)]
        seconds = sorted(o.seconds for o in here if o.solved)
        style = {"color": "black", "linewidth": 1.6} if family is None else {"linewidth": 1.2}
        label = f"{family or 'all'} ({len(seconds)} of {len(here)})"
        axes.plot(range(1, len(seconds) + 1), seconds, marker="o", markersize=3, label=label, **style)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="instances solved", ylabel="seconds for each", title="Solved instances, the quickest first")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    for suffix in ("png", "svg"):
        figure.savefig(path / f"cactus.{suffix}", dpi=150)
