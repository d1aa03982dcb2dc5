"""Figures of a moments run: errors of the estimates, one sample's outputs, and the attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kreludomain.network.operators import Shape
from kreludomain.run.moments.rows import EVERY, LINEAR, AttackRow, MomentRow, by_noise, typical
from kreludomain.run.output.figures import figure_files, marker, new_figure
from kreludomain.run.output.tables import median

Array = np.ndarray

#: Attacks in a figure at most; all are in attacks.csv and in the folder's attacks/.
MOST = 8

#: The errors that figures show: field of the estimates, field of Monte Carlo's own error, title, axis.
PANELS = (
    ("mean", "mean_sampling_error", "Error of the mean", "distance of means / standard deviation of the output"),
    ("covariance", "covariance_sampling_error", "Error of the covariance", "relative error, Frobenius norm"),
)


def figures(folder: Path, moments: Sequence[MomentRow], attacks: Sequence[AttackRow], shape: Shape) -> dict[str, bytes]:
    """The figures that the rows fill, as PNG and SVG by the names of the files; arrays of rows are in ``folder``."""
    files: dict[str, bytes] = {}
    estimated = [row for row in moments if row.estimates]
    if estimated:
        files |= figure_files("errors", _errors_by_noise(estimated))
        if any(e.displacement for row in estimated for e in row.estimates):
            files |= figure_files("displacements", _errors_by_displacement(estimated))
    for row in moments:
        if row.arrays is not None:
            files |= figure_files("outputs", _outputs(row, _arrays(folder / row.arrays)))
    chosen = [(row, _arrays(folder / row.arrays)) for row in attacks if row.arrays is not None]
    return files | (figure_files("attacks", _attacks(chosen[:MOST], shape)) if chosen else {})


def _arrays(path: Path) -> dict[str, Array]:
    with np.load(path) as file:
        return dict(file)


def _errors_by_noise(rows: Sequence[MomentRow]) -> Figure:
    """Errors of the exact rule at the mean by noise, a line an estimate."""
    label = "noise (standard deviation of an input entry)"
    return _errors({noise: (group, 0.0) for noise, group in by_noise(rows).items()}, label, "by estimate and noise")


def _errors_by_displacement(rows: Sequence[MomentRow]) -> Figure:
    """Errors of the exact rule by the point of linearisation, for the noise in the middle."""
    groups = by_noise(rows)
    noise = list(groups)[(len(groups) - 1) // 2]
    points = sorted({e.displacement for row in groups[noise] for e in row.estimates})
    label = "point of linearisation: draws of the noise away from the mean"
    places = {f"{point:g}": (groups[noise], point) for point in points}
    return _errors(places, label, f"by point of linearisation, noise {noise}")


def _errors(places: Mapping[str, tuple[Sequence[MomentRow], float]], label: str, title: str) -> Figure:
    """A line an estimate, over places of rows and a displacement each."""
    figure = new_figure(12, 5.5)
    axes = figure.subplots(1, 2)
    x = range(len(places))
    layers = dict.fromkeys(e.layer for rows, _ in places.values() for row in rows for e in row.estimates)
    names = {LINEAR: "no layer kept: linear", EVERY: "every layer kept"}
    for panel, (field, sampling_error, heading, unit) in zip(axes, PANELS, strict=True):
        for position, layer in enumerate(layers):
            values = [
                typical(rows, field, layer, 0.0 if layer == EVERY else displacement, "exact")
                for rows, displacement in places.values()
            ]
            style: dict[str, Any] = {"marker": marker(position), "markersize": 5}
            panel.plot(x, np.array(values, dtype=float), label=names.get(layer, f"kept: {layer}"), **style)
        floor = [median(getattr(row, sampling_error) for row in rows) for rows, _ in places.values()]
        panel.plot(x, np.array(floor, dtype=float), ":", color="black", label="Monte Carlo's own standard error")
        panel.set_xticks(x, list(places))
        if any((np.asarray(line.get_ydata()) > 0).any() for line in panel.get_lines()):  # without noise all are zero
            panel.set_yscale("log")
        panel.grid(alpha=0.3, which="both")
        panel.set(title=heading, xlabel=label, ylabel=unit)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(f"Moments of the output next to Monte Carlo, {title} (median over samples)")
    return figure


def _outputs(row: MomentRow, arrays: Mapping[str, Array]) -> Figure:
    """One sample's means, standard deviations and covariances: Monte Carlo's and three estimates'."""
    names = [str(name) for name in arrays["names"]]
    titles = {names[0]: names[0], LINEAR: "linear at the mean", EVERY: "every layer kept"}
    kept = next((name for name in names[1:] if name not in titles), None)
    shown = [name for name in (names[0], LINEAR, kept, EVERY) if name in names]
    series = {titles.get(name, f"kept: {name}"): names.index(name) for name in shown}
    figure = new_figure(13, 8.5)
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    figure.suptitle(f"Outputs for sample {row.index} (label {row.label}) with noise {row.noise}")
    _means(top, series, arrays["means"], arrays["covariances"])
    _covariances(bottom, {name: arrays["covariances"][position] for name, position in series.items()})
    return figure


def _means(figure: Figure, series: Mapping[str, int], means: Array, covariances: Array) -> None:
    left, right = figure.subplots(1, 2)
    std = np.sqrt(np.clip(np.diagonal(covariances, axis1=1, axis2=2), 0, None))
    x, spread = np.arange(means.shape[1]), np.clip(std[0], 1e-300, None)
    for place, (name, position) in enumerate(series.items()):
        where = x + 0.18 * (place - (len(series) - 1) / 2)
        style: dict[str, Any] = {"fmt": marker(place), "capsize": 3, "markersize": 5, "color": f"C{place}"}
        left.errorbar(where, means[position], std[position], label=name, **style)
        right.errorbar(where, (means[position] - means[0]) / spread, std[position] / spread, **style)
    for axes in (left, right):
        axes.set_xticks(x)
        axes.set_xlabel("output")
        axes.grid(alpha=0.3)
    left.set(ylabel="score", title="Mean and standard deviation")
    right.set(ylabel="standard deviations", title="The same, from Monte Carlo's mean, over its deviation")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(series), frameon=False)


def _covariances(figure: Figure, matrices: Mapping[str, Array]) -> None:
    most = max(float(np.abs(matrix).max()) for matrix in matrices.values()) or 1.0
    axes = figure.subplots(1, len(matrices))
    for panel, (name, matrix) in zip(axes, matrices.items(), strict=True):
        image = panel.imshow(matrix, cmap="RdBu_r", vmin=-most, vmax=most)
        panel.set(title=name, xlabel="output")
    axes[0].set_ylabel("output")
    figure.colorbar(image, ax=axes, label="covariance", shrink=0.85)


def _attacks(attacks: Sequence[tuple[AttackRow, Mapping[str, Array]]], shape: Shape) -> Figure:
    """A row an attack with image, noise, a draw, and scores."""
    figure = new_figure(14, 2.4 * len(attacks) + 0.9)
    grid = figure.subplots(len(attacks), 5, squeeze=False, width_ratios=(1, 1, 1, 1, 2.4))
    for line, (row, arrays) in zip(grid, attacks, strict=True):
        _images(line, row, arrays, shape)
        _scores(line[4], row, arrays)
    handles, labels = grid[0, 4].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=3, frameon=False)
    return figure


def _images(line: Sequence[Axes], row: AttackRow, arrays: Mapping[str, Array], shape: Shape) -> None:
    factor, clean = arrays["factor"], arrays["image"].ravel()
    draw = arrays["mean"].ravel() + factor @ np.random.default_rng(row.index).standard_normal(factor.shape[1])
    image, noisy, mean, std = (
        _pixels(values, shape) for values in (clean, clean + draw, arrays["mean"], np.linalg.norm(factor, axis=1))
    )
    largest = max(float(np.abs(mean).max()), 1e-12)
    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    kind, *_ = row.attack.partition(", target")
    panels = (
        (image, "gray", low, high, f"sample {row.index},\nlabel {row.label}"),
        (mean, "RdBu_r", -largest, largest, f"mean of the noise:\n{kind}"),
        (std, "viridis", 0.0, None, "standard deviation\nof the noise"),
        (noisy, "gray", low, high, "image + one draw\nof the noise"),
    )
    for axes, (picture, colours, bottom, top, title) in zip(line, panels, strict=False):
        shown = axes.imshow(_drawable(picture, colours), cmap=colours, vmin=bottom, vmax=top)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(title, fontsize=9)
        if colours != "gray":
            axes.figure.colorbar(shown, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)


def _scores(axes: Axes, row: AttackRow, arrays: Mapping[str, Array]) -> None:
    x, target = np.arange(len(arrays["scores"])), row.target or 0
    name = "with the noise: mean and standard deviation (Monte Carlo)"
    style: dict[str, Any] = {"yerr": arrays["sampled_std"], "error_kw": {"linewidth": 0.8}}
    axes.bar(x - 0.27, arrays["scores"], 0.27, label="score of the image", color="0.75")
    axes.bar(x, arrays["expected"], 0.27, label="expected with the noise (linearised)", color="tab:orange")
    axes.bar(x + 0.27, arrays["sampled"], 0.27, label=name, color="tab:blue", **style)
    axes.set_xticks(x)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("score", fontsize=8)
    axes.tick_params(labelsize=8)
    ticks = axes.get_xticklabels()
    ticks[row.label].set(color="tab:green", fontweight="bold")
    ticks[target].set(color="tab:red", fontweight="bold")
    there, here = (f"{100 * float(arrays['share'][j]):.0f} % as {j}" for j in (target, row.label))
    axes.set_title(f"from {row.label} to {target}: draws are classified {there}, {here}", fontsize=9)


def _pixels(values: Array, shape: Shape) -> Array:
    """``(height, width, channels)``, or ``(height, width)`` for one channel."""
    pixels = values.reshape(shape).transpose(1, 2, 0)
    return pixels[:, :, 0] if shape[0] == 1 else pixels


def _drawable(picture: Array, colours: str) -> Array:
    """A picture that can be drawn: colours clipped to [0, 1], other channels as their strongest entry."""
    if picture.ndim == 2:
        return picture
    strongest = np.abs(picture).argmax(2)[:, :, None]
    in_colour = picture.shape[2] == 3 and colours == "gray"
    drawn: Array = np.clip(picture, 0, 1) if in_colour else np.take_along_axis(picture, strongest, 2)[:, :, 0]
    return drawn
