"""Where in the user's code an operation is called: the module by its path, and the line."""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType

import torch
from torch import nn

from kreludomain.network.onnx.lines import shown_line

#: Whose lines are not the user's.
_INNER = (os.path.dirname(torch.__file__) + os.sep, os.path.dirname(__file__) + os.sep, "<")
_CALL: CodeType = nn.Module._call_impl.__code__


def node_name(path: str) -> str:
    """The path of a module as a node's name: YAML would read '0' and '0.1' as numbers."""
    return f"_{path}" if path[:1].isdigit() else path


@dataclass(frozen=True)
class Place:
    """``module`` is the path of the innermost module ("" for the whole), ``kind`` its class. ``calls`` are the calls of
    modules that are running, outermost first, by numbers. ``file``, ``line`` and ``code`` are the innermost line that
    is not torch's own; ``line`` is 0 where there is none, as in a ``Sequential`` of torch's layers."""

    module: str
    kind: str
    calls: tuple[int, ...] = ()
    file: str = ""
    line: int = 0

    @property
    def code(self) -> str:
        return linecache.getline(self.file, self.line).strip()

    @property
    def trace(self) -> str:
        """The line as torch's exporter of ONNX notes it in the nodes that come from it."""
        return f'File "{self.file}", line {self.line}, in forward\n    {self.code}' if self.line else ""

    def refusal(self, text: str, name: str | None = None) -> str:
        """One line that names the node, or the module where there is no node yet, its class, and the user's line."""
        name = node_name(self.module) if name is None else name
        line = str(self)
        if not name:
            return f"{line}: {text}" if line else text
        return f"node '{name}' ({self.kind}{', ' if line else ''}{line}): {text}"

    def __str__(self) -> str:
        return shown_line(self.file, self.line, self.code) if self.line else ""


class Places:
    """Finds places in the frames of running calls; ``paths`` are the modules' paths by their ids."""

    def __init__(self, module: nn.Module) -> None:
        self._paths: Mapping[int, str] = {id(m): path for path, m in module.named_modules()}
        self._kind = type(module).__name__
        self._calls: dict[FrameType, int] = {}

    def here(self, frame: FrameType | None, end: FrameType | None) -> Place:
        """The place of what is called in ``frame``, among the frames within ``end``."""
        return self.among(_within(frame, end))

    def among(self, frames: Iterable[FrameType]) -> Place:
        """The place of the first of ``frames``, innermost first."""
        calls: list[int] = []
        module, kind, file, line = "", self._kind, "", 0
        for frame in frames:
            if frame.f_code is _CALL:
                called = frame.f_locals["self"]
                if id(called) in self._paths:
                    if not calls:
                        module, kind = self._paths[id(called)], type(called).__name__
                    calls.append(self._calls.setdefault(frame, len(self._calls)))
            elif not line and _written_by_user(frame.f_code.co_filename):
                file, line = frame.f_code.co_filename, frame.f_lineno
        return Place(module, kind, tuple(reversed(calls)), file, line)


def _written_by_user(file: str) -> bool:
    """Whether a file is neither torch's own nor ours nor code that was made while running, but a notebook's."""
    return not file.startswith(_INNER) or file.startswith("<ipython")


def _within(frame: FrameType | None, end: FrameType | None) -> Iterator[FrameType]:
    while frame is not None and frame is not end:
        yield frame
        frame = frame.f_back
