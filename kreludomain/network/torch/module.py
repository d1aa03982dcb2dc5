"""A module as it is called: in evaluation, on one input, left as it was; and the tensors that it returns."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kreludomain.errors import InputError
from kreludomain.network.operators import Shape


def unwrapped(module: Any) -> nn.Module:
    """The module within a wrapper that only says where or how it runs: of data parallelism, ``torch.compile``, or
    ``torch.export``.

    Raises :class:`InputError` for what is no module.
    """
    export = sys.modules.get("torch.export")
    if export is not None and isinstance(module, export.ExportedProgram):
        module = module.module()
    while isinstance(module, nn.Module):
        parallel = isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel)
        inner = module.module if parallel else getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner
    hint = ""
    if isinstance(module, str):
        hint = "; kd.load reads a file"
    elif isinstance(module, Mapping):
        hint = "; the weights alone are not enough: build the module and give it to load_state_dict"
    elif isinstance(module, type) and issubclass(module, nn.Module):
        raise InputError(
            f"from_torch: {module.__name__} is a class; give a module of that class, {module.__name__}(...)"
        )
    raise InputError(f"from_torch: a torch.nn.Module is expected, not {type(module).__name__}{hint}")


def kind_of_numbers(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    """The dtype and the device of a module's weights; torch's defaults for a module without any."""
    tensors = (t for group in (module.parameters(), module.buffers()) for t in group if t.is_floating_point())
    first = next(tensors, torch.empty(0, dtype=torch.get_default_dtype()))
    return first.dtype, first.device


def example(module: nn.Module, input_shape: Shape, seed: int, samples: int = 1) -> Tensor:
    """Random inputs ``(samples, *input_shape)``, half of them uniform in [0, 1] and half normal."""
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, *input_shape)
    x = torch.randn(shape, generator=generator, dtype=torch.float32)
    x[::2] = torch.rand(shape, generator=generator, dtype=torch.float32)[::2]
    dtype, device = kind_of_numbers(module)
    return x.to(dtype=dtype, device=device)


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """``module`` in evaluation and without gradients; afterwards its modes, attributes and buffers are as they were."""
    modules = [m for m in module.modules() if not isinstance(m, torch.jit.ScriptModule)]
    attributes = [(vars(m), dict(vars(m))) for m in modules]
    tables = [(t, dict(t)) for m in modules for t in (m._parameters, m._buffers)]
    buffers = [(b, b._version, b.detach().clone()) for b in module.buffers()]
    training = [m for m in module.modules() if getattr(m, "training", False)]
    for m in training:
        m.training = False  # not eval(): a module may do more in that than we could undo
    try:
        with torch.no_grad():
            yield
    finally:
        for m in training:
            m.training = True
        for now, before in (*attributes, *tables):
            now.clear()
            now.update(before)
        with torch.no_grad():
            for buffer, version, content in buffers:
                if buffer._version != version:
                    buffer.copy_(content)


def outputs(returned: Any) -> dict[str, Tensor]:
    """The tensors in what a module returned, by name: keys of a dictionary, fields, positions from 0; those of nested
    ones joined by dots. The only one of a module that returns one tensor has no name."""
    return dict(_outputs(returned, ""))


def _outputs(returned: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(returned, Tensor):
        yield name, returned
        return
    if isinstance(returned, Mapping):
        items = returned.items()
    elif hasattr(returned, "_asdict"):
        items = returned._asdict().items()
    elif dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        items = vars(returned).items()
    elif isinstance(returned, list | tuple):
        items = enumerate(returned)  # type: ignore[assignment]
    else:
        return
    for key, item in items:
        yield from _outputs(item, f"{name}.{key}" if name else str(key))


def choose(found: Mapping[str, Tensor], output: str | int | None) -> str:
    """The name of the output that is asked for by name or position; without that, of the only one.

    Raises :class:`InputError` that lists the outputs.
    """
    names = list(found)
    if not names:
        raise InputError("it returns no tensor")
    if output is None and len(names) == 1:
        return names[0]
    if isinstance(output, int) and not isinstance(output, bool) and -len(names) <= output < len(names):
        return names[output]
    if isinstance(output, str) and output in found:
        return output
    listed = ", ".join(f"'{name}' of shape {tuple(tensor.shape[1:])}" for name, tensor in found.items())
    if output is None:
        raise InputError(f"{len(names)} outputs: {listed}; say which by output=, its name or position")
    raise InputError(f"output {output!r} is not one of its outputs: {listed}")
