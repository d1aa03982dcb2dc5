"""What a network really does over a region, in a plane: exactly for two inputs, sampled otherwise.

A ReLU network is affine on each of finitely many convex pieces of its inputs. Where two inputs vary within a box, the
pieces are polygons: the box is cut along the line where a neuron's pre-activation is zero, layer by layer, until no
neuron changes its sign inside a piece. The image of a piece is then the polygon of the images of its corners.

Of more inputs, points are what can be had: random ones, ones on the region's boundary, and ones that projected gradient
ascent pushes outwards in every direction of the plane. Their hull lies inside the true set's; it is no proof of
anything, and never larger than the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor

from kreludomain.analysis.reachable.plane import Plane
from kreludomain.analysis.reachable.polygon import split
from kreludomain.network import Network
from kreludomain.network.operators import Relu
from kreludomain.property import Box, Region

#: A neuron whose values at a piece's corners stay this close to zero, relative to the layer's, does not cut it.
_ZERO = 1e-9


@dataclass(frozen=True, eq=False)
class Truth:
    """Points that occur, and where it is known, everything that does.

    ``points`` ``(N, 2)`` are outputs of inputs of the region. ``pieces`` are the convex polygons ``(V, 2)`` whose union
    is exactly the reachable set, one a linear piece; none where the set is only sampled. ``hull`` ``(V, 2)`` is the
    convex hull of all of these.
    """

    points: np.ndarray
    pieces: tuple[np.ndarray, ...]
    hull: np.ndarray

    @property
    def exact(self) -> bool:
        """Whether the pieces are the whole truth; otherwise there is more of it than the points."""
        return bool(self.pieces)


def truth(
    network: Network, region: Region, plane: Plane, samples: int = 5000, seed: int = 0, most: int = 20_000
) -> Truth:
    """The reachable set of a region (batch of one): exact for a box of two inputs and at most ``most`` linear pieces,
    otherwise ``samples`` random points and what gradient ascent adds to them."""
    region = region.fit(network)
    pieces = linear_pieces(network, region, most)
    points = plane.points(network, sampled_inputs(network, region, plane, samples, seed))
    if pieces is None:
        return Truth(points, (), _hull(points))
    corners = np.cumsum([len(piece) for piece in pieces])[:-1]
    images = np.split(plane.points(network, torch.cat(pieces)), corners)
    return Truth(points, tuple(_hull(image) for image in images), _hull(np.concatenate(images)))


def linear_pieces(network: Network, region: Region, most: int = 20_000) -> list[Tensor] | None:
    """The inputs of a box in which two entries vary, as polygons ``(V, *input_shape)`` on which the network is affine.

    ``None`` for other regions, where an activation is no ReLU, and where there are more than ``most`` pieces.
    """
    if not all(isinstance(node.operator, Relu) for node in network.activations):
        return None
    free = (region.lower < region.upper).flatten().nonzero()[:, 0]
    if not isinstance(region, Box) or region.batch != 1 or len(free) != 2:
        return None
    (a, b), (c, d) = region.lower.flatten()[free].tolist(), region.upper.flatten()[free].tolist()

    def inputs(corners: np.ndarray) -> Tensor:
        x = region.lower.flatten(1).repeat(len(corners), 1)
        x[:, free] = torch.from_numpy(corners).to(x)
        return x.unflatten(1, region.shape)

    done: list[np.ndarray] = []
    pending = [np.array([[a, b], [c, b], [c, d], [a, d]])]
    while pending:
        cuts = _first_changes(network, inputs(np.concatenate(pending)), [len(polygon) for polygon in pending])
        pairs = list(zip(pending, cuts, strict=True))
        done += [polygon for polygon, cut in pairs if cut is None]
        halves = (part for polygon, cut in pairs if cut is not None for part in split(polygon, cut))
        pending = [part for part in halves if len(part) > 2]
        if len(done) + len(pending) > most:
            return None
    return [inputs(polygon) for polygon in done]


def _first_changes(network: Network, x: Tensor, sizes: list[int]) -> list[np.ndarray | None]:
    """For each polygon, its corners being ``sizes`` rows of ``x``: the values at its corners of the first neuron whose
    sign changes there, on which the network before is affine; ``None`` if there is none."""
    with torch.no_grad():
        values = network.values(x)
    starts = np.cumsum([0, *sizes[:-1]])
    found: list[np.ndarray | None] = [None] * len(sizes)
    for name in network.pre_activations:
        value = values[name].flatten(1).cpu().double().numpy()
        zero = _ZERO * max(float(np.abs(value).max()), 1e-300)
        changes = (np.minimum.reduceat(value, starts) < -zero) & (np.maximum.reduceat(value, starts) > zero)
        for position in np.flatnonzero(changes.any(1)):
            if found[position] is None:
                rows = slice(starts[position], starts[position] + sizes[position])
                found[position] = value[rows, int(changes[position].argmax())]
    return found


def sampled_inputs(network: Network, region: Region, plane: Plane, samples: int, seed: int = 0) -> Tensor:
    """Inputs of a region (batch of one) ``(N, *input_shape)``: ``samples`` random ones, half of them inside and half
    on the boundary, and ones whose images lie far out in 64 directions of the plane."""
    generator = torch.Generator().manual_seed(seed)
    inner, outer = region.sample(samples - samples // 2, generator), region.sample(samples // 2, generator)
    # On the boundary: a random share of the entries goes to the ends of their interval, all of them in the corners.
    share = torch.rand((len(outer), *[1] * (outer.dim() - 1)), generator=generator).to(outer.device)
    pinned = torch.rand(outer.shape, generator=generator).to(outer.device) < 1.5 * share
    high = torch.rand(outer.shape, generator=generator).to(outer.device) < 0.5
    outer = region.project(torch.where(pinned, torch.where(high, region.upper, region.lower), outer))
    starts = torch.cat([region.center, inner[:1], outer[:1]])
    return torch.cat([region.center, inner, outer, _pushed(network, region, plane, starts)])


def _pushed(network: Network, region: Region, plane: Plane, starts: Tensor, count: int = 64, steps: int = 40) -> Tensor:
    """Inputs that projected gradient ascent reaches from each of ``starts``, in each of ``count`` directions."""
    angles = 2 * torch.pi * torch.arange(count, dtype=torch.float64) / count
    directions = torch.stack([angles.cos(), angles.sin()], dim=1).repeat_interleave(len(starts), 0)
    rows = (directions @ plane.rows).to(region.lower)
    x = starts.repeat(count, *[1] * (starts.dim() - 1))
    width, best, reached = region.upper - region.lower, x, x.new_full((len(x),), -torch.inf)
    for step in range(steps + 1):
        x = x.detach().requires_grad_()
        height = (network.values(x)[plane.node].flatten(1) * rows).sum(1)
        (gradient,) = torch.autograd.grad(height.sum(), x)
        further = (height.detach() > reached).reshape(-1, *[1] * (x.dim() - 1))
        best, reached = torch.where(further, x.detach(), best), torch.maximum(reached, height.detach())
        size = 0.25 * (1 - step / steps) + 0.01
        x = region.project(x.detach() + size * width * gradient.sign())
    return best


def _hull(points: np.ndarray) -> np.ndarray:
    """Corners of the convex hull of points, counterclockwise; of flat ones, the two ends."""
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except (QhullError, ValueError):
        along = np.linalg.svd(points - points.mean(0))[2][0]
        height = points @ along
        return points[[int(height.argmin()), int(height.argmax())]]
