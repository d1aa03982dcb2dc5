"""Figures of a moments run: errors of the estimates, one sample's outputs, and the attacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from kreludomain.network.operators import Shape
from kreludomain.run.moments_study import EVERY, NONE, Attacked, MomentRow, Portrait
from kreludomain.run.moments_tables import typical

MARKERS = "osD^vPX*<>"

#: Attacks in a figure at most: more are in attacks.csv and as arrays.
MOST = 8


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no window system is needed
    return figure


def _save(figure: Figure, path: Path, name: str) -> None:
    for suffix in ("png", "svg"):
        figure.savefig(path / f"{name}.{suffix}", dpi=150)


#: The errors that figures show: field, the field with what Monte Carlo's own error makes of it, title, axis.
PANELS = (
    ("mean", "mean_sampling_error", "Error of the mean", "distance of means / standard deviation of the output"),
    ("covariance", "covariance_sampling_error", "Error of the covariance", "relative error, Frobenius norm"),
)


def save_errors(path: Path, rows: Sequence[MomentRow]) -> None:
    """Writes ``errors.png`` and ``.svg``: errors of the exact rule at the mean by noise, a line an estimate; and where
    a run has other points, ``displacements.png`` and ``.svg`` for the noise in the middle."""
    exact = [row for row in rows if row.rule == "exact"]
    noises = list(dict.fromkeys(row.noise for row in rows))
    at_mean = [row for row in exact if not row.displacement]
    by_noise = {noise: [row for row in at_mean if row.noise == noise] for noise in noises}
    _errors(path, "errors", by_noise, "noise (standard deviation of an input entry)", "by estimate and noise")
    middle = noises[(len(noises) - 1) // 2]
    chosen = [row for row in exact if row.noise == middle]
    points = sorted({row.displacement for row in chosen})
    if points != [0.0]:
        by_point = {f"{p:g}": [r for r in chosen if r.displacement == p or r.layer == EVERY] for p in points}
        label = "where is linearised: draws of the noise away from the mean"
        _errors(path, "displacements", by_point, label, f"by where one linearises, noise {middle}")


def _errors(path: Path, name: str, groups: dict[str, list[MomentRow]], label: str, title: str) -> None:
    """A figure with a line an estimate and a place on the horizontal axis a group of rows."""
    figure = _figure(12, 5.5)
    axes = figure.subplots(1, 2)
    places = range(len(groups))
    layers = list(dict.fromkeys(row.layer for rows in groups.values() for row in rows))
    for place, (field, chance, heading, unit) in zip(axes, PANELS, strict=True):
        for position, layer in enumerate(layers):
            values = [typical([row for row in rows if row.layer == layer], field) for rows in groups.values()]
            known = {NONE: "no layer kept: linear", EVERY: "every layer kept"}.get(layer, f"kept: {layer}")
            place.plot(places, _numbers(values), marker=MARKERS[position % len(MARKERS)], markersize=5, label=known)
        floor = [typical(rows, chance) for rows in groups.values()]
        place.plot(places, _numbers(floor), ":", color="black", label="Monte Carlo's own standard error")
        place.set_xticks(places, list(groups))
        if any((np.asarray(line.get_ydata()) > 0).any() for line in place.get_lines()):  # no noise, no error: no log
            place.set_yscale("log")
        place.grid(alpha=0.3, which="both")
        place.set(title=heading, xlabel=label, ylabel=unit)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(f"Moments of the output next to Monte Carlo, {title} (median over samples)")
    _save(figure, path, name)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def save_outputs(path: Path, portrait: Portrait) -> None:
    """Writes ``outputs.png`` and ``.svg``: one sample's means and standard deviations, and its covariances."""
    sample, names = portrait.sample, _shown(portrait)
    figure = _figure(13, 8.5)
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    figure.suptitle(f"Outputs for sample {sample.index} (label {sample.label}) with noise {portrait.noise}")
    left, right = top.subplots(1, 2)
    sampled = portrait.sampled
    places, spread = np.arange(len(sampled.mean)), sampled.std.clamp(min=1e-300)
    series = {"Monte Carlo": sampled, **{name: portrait.estimates[key] for name, key in names.items()}}
    for position, (name, found) in enumerate(series.items()):
        where = places + 0.18 * (position - (len(series) - 1) / 2)
        style = {"fmt": MARKERS[position], "capsize": 3, "markersize": 5, "color": f"C{position}"}
        left.errorbar(where, found.mean.numpy(), found.std.numpy(), label=name, **style)
        shift = (found.mean - sampled.mean) / spread
        right.errorbar(where, shift.numpy(), (found.std / spread).numpy(), **style)
    for axes in (left, right):
        axes.set_xticks(places)
        axes.set_xlabel("output")
        axes.grid(alpha=0.3)
    left.set(ylabel="score", title="Mean and standard deviation")
    right.set(ylabel="standard deviations", title="The same, from Monte Carlo's mean, over its deviation")
    top.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(series), frameon=False)
    _covariances(bottom, portrait, names)
    _save(figure, path, "outputs")


def _shown(portrait: Portrait) -> dict[str, str]:
    """Estimates to draw: the linear one, the first layer, and every layer."""
    first = next((layer for layer in portrait.estimates if layer not in (NONE, EVERY)), None)
    names = {"linear at the mean": NONE}
    if first is not None:
        names[f"kept: {first}"] = first
    if EVERY in portrait.estimates:
        names["every layer kept"] = EVERY
    return {name: key for name, key in names.items() if key in portrait.estimates}


def _covariances(figure: Figure, portrait: Portrait, names: dict[str, str]) -> None:
    matrices = {"Monte Carlo": portrait.sampled.covariance}
    matrices |= {name: portrait.estimates[key].covariance for name, key in names.items()}
    most = max(float(matrix.abs().max()) for matrix in matrices.values()) or 1.0
    axes = figure.subplots(1, len(matrices))
    for place, (name, matrix) in zip(axes, matrices.items(), strict=True):
        image = place.imshow(matrix.numpy(), cmap="RdBu_r", vmin=-most, vmax=most)
        place.set(title=name, xlabel="output")
    axes[0].set_ylabel("output")
    figure.colorbar(image, ax=axes, label="covariance", shrink=0.85)


def save_attacks(path: Path, attacked: Sequence[Attacked], shape: Shape) -> None:
    """Writes ``attacks.png`` and ``.svg``: a row an attack with image, noise, a draw, and scores."""
    chosen = attacked[:MOST]
    figure = _figure(14, 2.4 * len(chosen) + 0.9)
    grid = figure.subplots(len(chosen), 5, squeeze=False, width_ratios=(1, 1, 1, 1, 2.4))
    for line, found in zip(grid, chosen, strict=True):
        _attack(line, found, shape)
    handles, labels = grid[0, 4].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=3, frameon=False)
    _save(figure, path, "attacks")


def _attack(line: Sequence[Axes], found: Attacked, shape: Shape) -> None:
    noise, row = found.attack.noise, found.row
    image = _pixels(found.sample.x, shape)
    draw = _pixels(found.sample.x + noise.sample(1, torch.Generator().manual_seed(found.row.index))[0], shape)
    mean, std = _pixels(noise.mean, shape), _pixels(noise.std, shape)
    largest = max(float(np.abs(mean).max()), 1e-12)
    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    kind, *_ = row.attack.partition(", target")
    panels = (
        (image, "gray", low, high, f"sample {row.index},\nlabel {row.label}"),
        (mean, "RdBu_r", -largest, largest, f"mean of the noise:\n{kind}"),
        (std, "viridis", 0.0, None, "standard deviation\nof the noise"),
        (draw, "gray", low, high, "image + one draw\nof the noise"),
    )
    for axes, (picture, colours, bottom, top, title) in zip(line, panels, strict=False):
        shown = axes.imshow(_drawable(picture, colours), cmap=colours, vmin=bottom, vmax=top)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(title, fontsize=9)
        if colours != "gray":
            axes.figure.colorbar(shown, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    _scores(line[4], found)


def _scores(axes: Axes, found: Attacked) -> None:
    attack, row = found.attack, found.row
    places = np.arange(len(attack.expected))
    axes.bar(places - 0.27, found.plain.numpy(), 0.27, label="score of the image", color="0.75")
    axes.bar(places, attack.expected.numpy(), 0.27, label="expected with the noise (linearised)", color="tab:orange")
    spread, mean = attack.sampled.std.numpy(), attack.sampled.mean.numpy()
    name = "with the noise: mean and standard deviation (Monte Carlo)"
    axes.bar(places + 0.27, mean, 0.27, yerr=spread, label=name, color="tab:blue", error_kw={"linewidth": 0.8})
    axes.set_xticks(places)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("score", fontsize=8)
    axes.tick_params(labelsize=8)
    ticks, share = axes.get_xticklabels(), attack.sampled.share
    ticks[row.label].set(color="tab:green", fontweight="bold")
    ticks[attack.target].set(color="tab:red", fontweight="bold")
    there, here = (f"{100 * float(share[j]):.0f} % as {j}" for j in (attack.target, row.label))
    axes.set_title(f"from {row.label} to {attack.target}: draws are classified {there}, {here}", fontsize=9)


def _pixels(values: Tensor, shape: Shape) -> np.ndarray:
    """``(height, width, channels)``, or ``(height, width)`` for one channel."""
    pixels = values.reshape(shape).permute(1, 2, 0).numpy()
    return pixels[:, :, 0] if shape[0] == 1 else pixels


def _drawable(picture: np.ndarray, colours: str) -> np.ndarray:
    """A picture that can be drawn: colours within [0, 1], other channels as their strongest entry."""
    if picture.ndim == 2:
        return picture
    if picture.shape[2] == 3 and colours == "gray":
        result: np.ndarray = np.clip(picture, 0, 1)
        return result
    strongest = np.abs(picture).argmax(2)[:, :, None]
    return np.take_along_axis(picture, strongest, 2)[:, :, 0]
