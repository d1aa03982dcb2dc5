"""Equivalence of two networks: how far their outputs are apart, at most, anywhere in a region."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.attack import Attack
from kreludomain.deadline import Deadline
from kreludomain.domain import Method
from kreludomain.network import Network, Runtime, difference
from kreludomain.property import Region, within
from kreludomain.verify.certificate import Certificate, Verdict
from kreludomain.verify.certify import certify

#: Random points that are tried for a large difference, and steps from the best of them, for each output.
_POINTS, _STEPS = 512, 10


@dataclass(frozen=True, eq=False)
class Equivalence(Certificate):
    """The verdict on the claim that two networks differ by at most ``delta``, and by how much they do.

    ``largest_difference``: bounds of the largest ``|f(x) - g(x)|`` over the region and the outputs. The first is
    reached at some input that a search found, in onnxruntime; the second is certified. ``lower_bounds`` are those of
    ``f - g + delta`` and ``delta - (f - g)``, in turn, for each output.
    """

    largest_difference: tuple[float, float] = (0.0, float("inf"))


def equivalent(
    first: Network,
    second: Network,
    region: Region,
    delta: float | Sequence[float],
    method: str | Method = "krelu",
    timeout_s: float | None = None,
    attack: bool | Attack = True,
    tight: bool = False,
    strict: bool = False,
    **options: object,
) -> Equivalence:
    """Whether two networks of the same input differ by at most ``delta`` all over a region (one, not a batch).

    ``delta`` is one number, or one for each output. All else is as in :func:`certify`, which is asked about
    :func:`difference`; a counterexample is an input where the outputs that onnxruntime computes by both networks' own
    models are further apart. Of networks that both end in a Softmax, the logits are compared, and a note says so. With
    ``tight``, bounds of the largest difference are as good as the method can, even if less proves the claim. Raises
    :class:`InputError` for networks whose inputs or outputs do not fit.
    """
    network, deadline = difference(first, second), Deadline.after(timeout_s)
    claim, runtime = within([0.0] * network.size(network.output.name), delta), Runtime(network)
    found = certify(network, region, claim, method, None, timeout_s, attack, tight, strict, runtime, **options)
    most = float((claim.d - found.lower_bounds).max())
    if found.verdict == Verdict.VERIFIED:
        most = min(most, float(claim.d.max()))
    least = _reached(network, region, runtime, found.counterexample, deadline)
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    values["notes"] = (*network.notes, *found.notes)
    return Equivalence(**values, largest_difference=(least, most))


def _reached(network: Network, region: Region, runtime: Runtime, known: Tensor | None, deadline: Deadline) -> float:
    """A large difference that onnxruntime computes at some input of the region: the largest at random points, at the
    input ``known`` ``(*input_shape)`` if there is one, and on the way that linearisations lead from the best of them.
    """
    network = network.to(dtype=torch.float64, device="cpu")
    region = region.fit(network)
    x = torch.cat([region.center, region.sample(_POINTS, torch.Generator().manual_seed(0))])
    if known is not None:
        x = torch.cat([x, known[None].to(x)])
    signs = torch.eye(network.size(network.output.name), dtype=x.dtype)
    rows = torch.cat([signs, -signs])
    best = (network(x).flatten(1) @ rows.T).argmax(0)
    points, x = [x], x[best]
    for _ in range(_STEPS):
        if deadline.passed:
            break
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad((network(x).flatten(1) * rows).sum(), x)
        x = region.minimiser(-gradient[None])[0]
        points.append(x)
    with torch.no_grad():
        every = torch.cat(points)
        largest = every[network(every).flatten(1).abs().amax(1).argmax()][None]
    return float(runtime(region.rounded(largest, runtime.dtype)).abs().max())
