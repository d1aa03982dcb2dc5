"""``kreludomain report``: one HTML page about runs with its pictures, and its tables as CSV files beside it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from kreludomain.property.names import Names
from kreludomain.run.certify.plots import draw_certified_accuracy, draw_margins, draw_widths
from kreludomain.run.certify.rows import CertifyRow, Summary, all_layers, certified_accuracy, csv_files
from kreludomain.run.output.screen import screen
from kreludomain.run.output.tables import shown
from kreludomain.run.report import data as data
from kreludomain.run.report.data import SOLVED, FalsifiedSample, FinishedRun, NotableSample
from kreludomain.verify import Verdict

#: Colours of verdicts that are told apart on white and on black, also without red and green.
COLOURS = {
    Verdict.VERIFIED: "#2a9d6f",
    Verdict.FALSIFIED: "#d1495b",
    Verdict.UNKNOWN: "#d9a441",
    Verdict.TIMEOUT: "#7a77b9",
    Verdict.ERROR: "#6b6b6b",
    Verdict.MISCLASSIFIED: "#a9a9a9",
}

#: Text stays text, nothing is painted behind it, and equal plots are equal files.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kreludomain",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}

PAGE = "report.html"

#: How many entries of an input that is no image are shown.
MOST_VALUES = 24


@dataclass(frozen=True)
class Picture:
    """An image, or the first values of an input that is no image, with a caption."""

    caption: str
    uri: str = ""
    values: tuple[tuple[str, ...], ...] = ()
    header: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """A sample: facts about it, and its pictures."""

    title: str
    facts: tuple[str, ...]
    pictures: tuple[Picture, ...]


def report(folders: Sequence[Path], output: Path | None) -> None:
    """Reads the folders of runs; writes ``report.html`` and CSV files into ``output``, or into the first folder."""
    runs = data.read_runs(folders)
    target = output or folders[0]
    target.mkdir(parents=True, exist_ok=True)
    files = {PAGE: page(runs), **_csv_files(runs)}
    for name, text in files.items():
        (target / name).write_text(text, encoding="utf-8")
    screen().print(f"{', '.join(files)} are in {target}", soft_wrap=True)


def page(runs: Sequence[FinishedRun]) -> str:
    """The whole page as HTML that needs nothing besides."""
    environment = Environment(
        loader=PackageLoader("kreludomain.run.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows, summaries = data.every_row(runs), [summary for run in runs for summary in run.summaries]
    words = [run.words() for run in runs]
    falsified = data.falsified(runs)
    quantities = {run.quantity for run in runs}
    quantity = quantities.pop() if len(quantities) == 1 else "margin"
    return environment.get_template("report.html").render(
        title=" and ".join(run.name for run in runs),
        runs=runs,
        question={heading: [text[heading] for text in words] for heading in words[0]},
        verdicts=[verdict for verdict in Verdict if any(row.verdict == verdict for row in rows)],
        summaries=summaries,
        plots={name: Markup(svg) for name, svg in plots(summaries, rows, quantity).items()},
        margins=_margins(runs),
        most=data.MOST_MARGINS,
        widths=[
            [layer, *(shown(summary.widths.get(layer)) for summary in summaries)] for layer in all_layers(summaries)
        ],
        stages=_stages([summary.series for summary in summaries], rows),
        closest=[_card(sample) for sample in data.closest(runs)],
        longest=[_card(sample) for sample in data.longest(runs)],
        falsified=[_falsified(item) for item in falsified[: data.MOST_FALSIFIED]],
        falsified_more=max(0, len(falsified) - data.MOST_FALSIFIED),
        shown=shown,
    )


def _stages(labels: Sequence[str], rows: Sequence[CertifyRow]) -> tuple[list[str], list[list[str]]]:
    """The stages of all methods, and a line a method: its label, and the seconds in each over all samples."""
    names = list(dict.fromkeys(name for row in rows for name in row.stages))
    lines = []
    for label in labels:
        of = [row.stages for row in rows if row.series == label]
        sums = {name: sum(stages.get(name, 0.0) for stages in of) for name in names}
        lines.append([label, *(f"{sums[name]:.3g}" if any(name in s for s in of) else "-" for name in names)])
    return names, lines


def _csv_files(runs: Sequence[FinishedRun]) -> dict[str, str]:
    """As those of ``compare``, methods called as in the page."""
    rows, summaries = data.every_row(runs), [summary for run in runs for summary in run.summaries]
    return {f"report_{name}": text for name, text in csv_files(summaries, rows).items()}


def _margins(runs: Sequence[FinishedRun]) -> list[list[str]]:
    """A line a sample: position, label, each method's margin or verdict, and a dash for runs without that sample."""
    labels = [summary.series for run in runs for summary in run.summaries]
    found: dict[tuple[int, str], dict[str, str]] = {}
    for row in data.every_row(runs):
        found.setdefault((row.index, row.label_text), {})[row.series] = row.margin_text
    return [
        [str(index), label, *(cells.get(name, "-") for name in labels)]
        for (index, label), cells in sorted(found.items())
    ]


def _card(sample: NotableSample) -> Card:
    row = sample.row
    facts = (f"{row.series}: {row.verdict.value}", f"{sample.run.quantity} {shown(row.margin)}", f"{row.seconds:.3g} s")
    pictures = () if sample.x is None else _pictures(sample, {_labelled(row): sample.x})
    return Card(f"Sample {row.index}", (*facts, row.reason) if row.margin is None else facts, pictures)


def _labelled(row: CertifyRow) -> str:
    """The label or the target of a row's sample, and which of both it is."""
    return f"{'target' if row.label is None else 'label'} {row.label_text}"


def _falsified(item: FalsifiedSample) -> Card:
    """Original (or the first of a pair), change and counterexample, with the network's answers."""
    title = f"Sample {item.row.index}, {_labelled(item.row)}"
    facts = [f"found after {item.row.series}", *([f"not so: {item.row.claim}"] if item.row.claim else [])]
    if item.before is None or item.found is None:
        return Card(title, (*facts, "its pictures are not there"), ())
    change = item.found.astype(np.float64) - item.before
    largest = float(np.abs(change).max())
    names, kinds = item.run.names, ("original", "counterexample")
    if item.before is not item.x:
        kinds = "first input", "second input"
    original, found = (f"{kind}{_said(answer, names)}" for kind, answer in zip(kinds, item.answers, strict=True))
    facts.append(f"largest change {largest:.4g}")
    if (amplified := _image(item, change)) is None:
        return Card(title, tuple(facts), _pictures(item, {original: item.before, "change": change, found: item.found}))
    scale = 0.5 / largest if largest else 1.0
    before, after = _pictures(item, {original: item.before, found: item.found})
    between = Picture(f"change times {scale:.3g}; grey: none", image(amplified * scale, -0.5, 0.5))
    return Card(title, tuple(facts), (before, between, after))


def _said(answer: float | None, names: Names) -> str:
    """A class, a value, or nothing, behind what it is the answer at."""
    if answer is None:
        return ""
    if not isinstance(answer, int):
        return f": {answer:.4g}"
    return f": {next((name for name, number in names.classes.items() if number == answer), f'class {answer}')}"


def _pictures(item: NotableSample, inputs: Mapping[str, np.ndarray]) -> tuple[Picture, ...]:
    """Inputs by their captions, all on one scale of brightness; as one table if they are no images."""
    images = {caption: _image(item, x) for caption, x in inputs.items()}
    flat = [x.flatten() for x in inputs.values()]
    clip = None if item.run.study is None else item.run.study.around.clip_in_data
    low, high = clip or (min(x.min() for x in flat), max(x.max() for x in flat))
    found = [Picture(caption, image(x, float(low), float(high))) for caption, x in images.items() if x is not None]
    if len(found) == len(images):
        return tuple(found)
    entries = item.run.names.features or tuple(map(str, range(len(flat[0]))))
    lines = zip(entries[:MOST_VALUES], *flat, strict=False)
    values = tuple((entry, *(f"{value:.4g}" for value in numbers)) for entry, *numbers in lines)
    caption = "" if len(flat[0]) <= MOST_VALUES else f"the first {MOST_VALUES} of {len(flat[0])} entries"
    return (Picture(caption, header=("entry", *inputs), values=values),)


def _image(item: NotableSample, x: np.ndarray) -> np.ndarray | None:
    keys, study = item.run.file.config.data, item.run.study
    layout = None if keys is None else keys.layout
    if layout == "flat" or study is None:
        return None
    return data.as_image(x, study.network.input_layout if x.ndim == 3 else layout or "chw")


def plots(summaries: Sequence[Summary], rows: Sequence[CertifyRow], quantity: str = "margin") -> dict[str, str]:
    """The SVG of each plot by its name."""
    labels = [summary.series for summary in summaries]
    bars = 0.9 + 0.32 * len(summaries)
    drawn: dict[str, tuple[Callable[[Axes], object], float]] = {
        "verdicts": (lambda axes: _bars(axes, summaries, rows, lambda row: 1.0, "samples"), bars),
        "cactus": (lambda axes: _cactus(axes, labels, rows), 4.2),
        "margins": (lambda axes: draw_margins(axes, labels, rows, quantity), 4.2),
        "widths": (lambda axes: draw_widths(axes, summaries), 4.2),
        "time": (lambda axes: _bars(axes, summaries, rows, lambda row: row.seconds, "seconds in all"), bars),
    }
    curves = certified_accuracy(rows)
    if curves:
        drawn["accuracy"] = (lambda axes: draw_certified_accuracy(axes, curves), 4.2)
    with matplotlib.rc_context(STYLE):
        return {name: _svg(name, draw, height) for name, (draw, height) in drawn.items()}


def image(values: np.ndarray, low: float, high: float) -> str:
    """An image ``(height, width, 1 or 3)`` as a PNG's data URI; ``low`` is black, ``high`` is white."""
    scaled = np.clip((values.astype(np.float64) - low) / max(high - low, 1e-300), 0.0, 1.0)
    file = io.BytesIO()
    imsave(file, np.repeat(scaled, 3, axis=2) if scaled.shape[2] == 1 else scaled, format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _svg(name: str, draw: Callable[[Axes], object], height: float) -> str:
    """A plot that takes the page's colour and font, and whose identifiers are like no other plot's."""
    figure = Figure(figsize=(8.0, height), layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.set_title("")  # the page has headings
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4) or 1, frameon=False)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return text.replace("#000000", "currentColor").replace("<svg", f'<svg role="img" aria-label="{name}"', 1)


def _bars(
    axes: Axes,
    summaries: Sequence[Summary],
    rows: Sequence[CertifyRow],
    value: Callable[[CertifyRow], float],
    label: str,
) -> None:
    """A bar a method, a part of it a verdict, the first method on top."""
    labels = [summary.series for summary in summaries]
    left = np.zeros(len(labels))
    for verdict, colour in COLOURS.items():
        parts = [sum(value(row) for row in rows if row.series == name and row.verdict == verdict) for name in labels]
        if any(parts):
            axes.barh(labels, parts, left=left, color=colour, label=verdict.value, height=0.7)
            left += parts
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(label)


def _cactus(axes: Axes, labels: Sequence[str], rows: Sequence[CertifyRow]) -> None:
    """How many samples each method has verified or falsified within so many seconds for each."""
    for name in labels:
        seconds = sorted(row.seconds for row in rows if row.series == name and row.verdict in SOLVED)
        if seconds:
            solved = [*range(1, len(seconds) + 1), len(seconds)]
            axes.step([*seconds, max(row.seconds for row in rows)], solved, where="post", label=name)
    if axes.lines:
        axes.set_xscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="seconds for a sample", ylabel="samples verified or falsified")
    axes.grid(alpha=0.3)
