"""The reachable set of a network in a plane: exact where two inputs vary within a box, sampled otherwise.

A ReLU network is affine on each of finitely many convex pieces of its input space. Where two inputs vary within a box,
the pieces are polygons: the box is split along the lines where a neuron's pre-activation is zero, layer by layer, until
no neuron changes its sign inside a piece. The image of a piece is the polygon of the images of its vertices.

For other regions points are sampled: random ones, ones on the region's boundary, and ones that projected gradient
ascent moves outwards in many directions of the plane. Their hull is contained in the hull of the reachable set; it can
refute a claim about the set and cannot prove one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kreludomain.analysis.reachable.plane import Plane
from kreludomain.analysis.reachable.polygon import convex_hull, split
from kreludomain.network import Network
from kreludomain.property import Region

#: Values this close to zero, relative to the layer's largest, do not count as a change of sign.
_ZERO_TOL = 1e-9


@dataclass(frozen=True, eq=False)
class ReachableSet:
    """The projection of everything that occurs at a node over a region, or samples of it.

    ``points`` ``(N, 2)`` are projections of inputs of the region. ``pieces`` are convex polygons ``(V, 2)``, one a
    linear piece, whose union is exactly the reachable set; empty where the set is only sampled. ``hull`` ``(V, 2)`` is
    the convex hull of the pieces, or of the points where there are none.
    """

    points: np.ndarray
    pieces: tuple[np.ndarray, ...]
    hull: np.ndarray

    @property
    def exact(self) -> bool:
        """Whether the pieces are the whole set; otherwise the points are a part of it."""
        return bool(self.pieces)


def reachable_set(
    network: Network, region: Region, plane: Plane, samples: int = 5000, seed: int = 0, max_pieces: int = 20_000
) -> ReachableSet:
    """The reachable set over a region (batch of one).

    It is exact where :func:`linear_pieces` finds at most ``max_pieces``. Its points are those of
    :func:`sampled_inputs`.
    """
    region = region.fit(network)
    pieces = linear_pieces(network, region, max_pieces)
    points = plane.points(network, sampled_inputs(network, region, plane, samples, seed))
    if pieces is None:
        return ReachableSet(points, (), convex_hull(points))
    ends = np.cumsum([len(piece) for piece in pieces])[:-1]
    images = np.split(plane.points(network, torch.cat(pieces)), ends)
    return ReachableSet(points, tuple(map(convex_hull, images)), convex_hull(np.concatenate(images)))


def linear_pieces(network: Network, region: Region, max_pieces: int = 20_000) -> list[Tensor] | None:
    """A box in which two inputs vary, as polygons ``(V, *input_shape)`` on each of which the network is affine.

    ``None`` for other regions, for networks with other activations than ReLU, and where there are more than
    ``max_pieces``.
    """
    if not all(node.is_relu for node in network.activations):
        return None
    free = (region.lower < region.upper).flatten().nonzero()[:, 0]
    if not region.is_box or region.batch != 1 or len(free) != 2:
        return None
    (a, b), (c, d) = region.lower.flatten()[free].tolist(), region.upper.flatten()[free].tolist()

    def inputs(vertices: np.ndarray) -> Tensor:
        x = region.lower.flatten(1).repeat(len(vertices), 1)
        x[:, free] = torch.from_numpy(vertices).to(x)
        return x.reshape(-1, *region.shape)

    done: list[np.ndarray] = []
    pending = [np.array([[a, b], [c, b], [c, d], [a, d]])]
    while pending:
        cuts = _first_sign_changes(network, inputs(np.concatenate(pending)), [len(polygon) for polygon in pending])
        pairs = list(zip(pending, cuts, strict=True))
        done += [polygon for polygon, cut in pairs if cut is None]
        halves = (part for polygon, cut in pairs if cut is not None for part in split(polygon, cut))
        pending = [part for part in halves if len(part) > 2]
        if len(done) + len(pending) > max_pieces:
            return None
    return [inputs(polygon) for polygon in done]


def _first_sign_changes(network: Network, x: Tensor, sizes: list[int]) -> list[np.ndarray | None]:
    """For each polygon, the values ``(V,)`` at its vertices of the first neuron that changes its sign on it.

    ``None`` where no neuron does. ``x`` ``(N, *input_shape)`` has the vertices of all polygons, ``sizes`` says how many
    each has. The neuron's pre-activation is affine on the polygon, since none before it changes its sign there.
    """
    with torch.no_grad():
        values = network.values(x)
    starts = np.cumsum([0, *sizes[:-1]])
    found: list[np.ndarray | None] = [None] * len(sizes)
    for name in network.pre_activations:
        value = values[name].flatten(1).cpu().double().numpy()
        zero = _ZERO_TOL * max(float(np.abs(value).max()), 1e-300)
        changes = (np.minimum.reduceat(value, starts) < -zero) & (np.maximum.reduceat(value, starts) > zero)
        for position in np.flatnonzero(changes.any(1)):
            if found[position] is None:
                rows = slice(starts[position], starts[position] + sizes[position])
                found[position] = value[rows, int(changes[position].argmax())]
    return found


def sampled_inputs(network: Network, region: Region, plane: Plane, samples: int, seed: int = 0) -> Tensor:
    """Inputs of a region (batch of one), ``(N, *input_shape)``.

    The centre, ``samples`` random ones, half of them on the boundary, and ones whose projections lie far out in 64
    directions of the plane.
    """
    generator = torch.Generator().manual_seed(seed)
    inner, outer = region.sample(samples - samples // 2, generator), region.sample(samples // 2, generator)
    # On the boundary: a random share of the entries goes to the ends of their interval, with share 1 to a corner.

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float32).to(outer.device)

    share = random(len(outer), *[1] * (outer.dim() - 1))
    pinned = random(*outer.shape) < 1.5 * share
    high = random(*outer.shape) < 0.5
    outer = region.project(torch.where(pinned, torch.where(high, region.upper, region.lower), outer))
    starts = torch.cat([region.center, inner[:1], outer[:1]])
    return torch.cat([region.center, inner, outer, _gradient_ascent(network, region, plane, starts)])


def _gradient_ascent(
    network: Network, region: Region, plane: Plane, starts: Tensor, count: int = 64, steps: int = 40
) -> Tensor:
    """The best inputs of projected gradient ascent from each of ``starts``, in each of ``count`` directions."""
    angles = 2 * torch.pi * torch.arange(count, dtype=torch.float64) / count
    directions = torch.stack([angles.cos(), angles.sin()], dim=1).repeat_interleave(len(starts), 0)
    rows = (directions @ plane.rows).to(region.lower)
    x = starts.repeat(count, *[1] * (starts.dim() - 1))
    width, best, highest = region.upper - region.lower, x, x.new_full((len(x),), -torch.inf)
    for step in range(steps + 1):
        x = x.detach().requires_grad_()
        height = (network.values(x)[plane.node].flatten(1) * rows).sum(1)
        (gradient,) = torch.autograd.grad(height.sum(), x)
        better = (height.detach() > highest).reshape(-1, *[1] * (x.dim() - 1))
        best, highest = torch.where(better, x.detach(), best), torch.maximum(highest, height.detach())
        size = 0.25 * (1 - step / steps) + 0.01
        x = region.project(x.detach() + size * width * gradient.sign())
    return best
