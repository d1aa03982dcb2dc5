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
from kreludomain.run.moments_tables import estimates, typical

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


def save_errors(path: Path, rows: Sequence[MomentRow]) -> None:
    """Writes ``errors.png`` and ``.svg``: errors of the exact rule by noise, a line an estimate."""
    figure = _figure(12, 5.5)
    panels = (
        ("mean", "mean_chance", "Error of the mean", "distance of means / standard deviation of the output"),
        ("covariance", "covariance_chance", "Error of the covariance", "relative error, Frobenius norm"),
    )
    axes = figure.subplots(1, 2)
    for place, (field, chance, title, label) in zip(axes, panels, strict=True):
        _errors(place, [row for row in rows if row.rule == "exact"], field, chance)
        place.set(title=title, xlabel="noise (standard deviation of an input entry)", ylabel=label)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("Moments of the output by estimate, next to Monte Carlo (median over samples)")
    _save(figure, path, "errors")


def _errors(axes: Axes, rows: Sequence[MomentRow], field: str, chance: str) -> None:
    noises = list(dict.fromkeys(row.noise for row in rows))
    for position, (layer, away) in enumerate(estimates(rows)):
        chosen = [row for row in rows if (row.layer, row.displacement) == (layer, away)]
        values = [typical([row for row in chosen if row.noise == noise], field) for noise in noises]
        name = {NONE: "no layer kept: linear", EVERY: "every layer kept"}.get(layer, f"kept: {layer}")
        name += f", linearised {away:g} draws away" if away else ""
        style = "--" if away else "-"
        marker = MARKERS[position % len(MARKERS)]
        axes.plot(range(len(noises)), _numbers(values), style, marker=marker, markersize=5, label=name)
    floor = [typical([row for row in rows if row.noise == noise], chance) for noise in noises]
    axes.plot(range(len(noises)), _numbers(floor), ":", color="black", label="Monte Carlo's own standard error")
    axes.set_xticks(range(len(noises)), noises)
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def save_outputs(path: Path, portrait: Portrait) -> None:
    """Writes ``outputs.png`` and ``.svg``: one sample's means and standard deviations, and its covariances."""
    names = _shown(portrait)
    figure = _figure(13, 8.5)
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    sampled = portrait.sampled
    axes = top.subplots()
    places = np.arange(len(sampled.mean))
    series = {"Monte Carlo": sampled, **{name: portrait.estimates[key] for name, key in names.items()}}
    for position, (name, found) in enumerate(series.items()):
        offset = 0.18 * (position - (len(series) - 1) / 2)
        style = {"fmt": MARKERS[position], "capsize": 3, "markersize": 5}
        axes.errorbar(places + offset, found.mean.numpy(), found.std.numpy(), label=name, **style)
    axes.set_xticks(places)
    axes.set(xlabel="output", ylabel="score: mean and standard deviation")
    axes.set_title(
        f"Outputs for sample {portrait.sample.index} (label {portrait.sample.label}), noise {portrait.noise}"
    )
    axes.grid(alpha=0.3)
    top.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    _covariances(bottom, portrait, names)
    _save(figure, path, "outputs")


def _shown(portrait: Portrait) -> dict[str, str]:
    """Estimates to draw: the linear one, the first layer, and every layer."""
    first = next((layer for layer in portrait.estimates if layer not in (NONE, EVERY)), None)
    names = {"linear at the mean": NONE}
    if first is not None:
        names[f"{first} kept"] = first
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
    figure = _figure(14, 2.3 * len(chosen) + 0.9)
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
        (image, "gray", low, high, f"sample {row.index}, label {row.label}"),
        (mean, "RdBu_r", -largest, largest, f"mean of the noise: {kind}"),
        (std, "viridis", 0.0, None, "its standard deviation"),
        (draw, "gray", low, high, "image + one draw"),
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
        return np.clip(picture, 0, 1)
    strongest = np.abs(picture).argmax(2)[:, :, None]
    return np.take_along_axis(picture, strongest, 2)[:, :, 0]
