"""How the joint relaxation of a group becomes variables and rows, by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kreludomain.groups import JointRelaxation, joint_hull, lifted
from kreludomain.programs.model import Model


def _vertex_rows(model: Model, joint: JointRelaxation, x: np.ndarray, y: np.ndarray) -> tuple[str, ...]:
    """``(x_g, y_g) = sum_v weight_v (v, ReLU(v))``, weights in the simplex."""
    points = lifted(joint.vertices).cpu().numpy()  # (G, V, 2k)
    groups, count, width = points.shape
    weights = model.columns(np.zeros(groups * count), np.ones(groups * count)).reshape(groups, count)
    columns = np.concatenate([x, y], axis=1)  # (G, 2k)
    row = np.arange(groups * width).reshape(groups, width)
    combined = model.triplets(row[:, None, :], weights[:, :, None], points, groups * width)
    combined -= model.triplets(row, columns, np.ones(1), groups * width)
    model.add_rows(combined, 0.0, 0.0)
    model.add_rows(model.triplets(np.arange(groups)[:, None], weights, np.ones(1), groups), 1.0, 1.0)
    return ()


def _hull_rows(model: Model, joint: JointRelaxation, x: np.ndarray, y: np.ndarray) -> tuple[str, ...]:
    """The facets of each group's hull."""
    hulls = [joint_hull(vertices) for vertices in joint.vertices]
    columns = np.concatenate([x, y], axis=1)
    for hull, at in zip(hulls, columns, strict=True):
        rows = np.arange(len(hull.offsets))[:, None]
        matrix = model.triplets(rows, at[None, :], hull.normals.numpy(), len(hull.offsets))
        model.add_rows(matrix, -np.inf, hull.offsets.numpy())
    loose = sum(not hull.exact for hull in hulls)
    return (f"{loose} of {len(hulls)} hulls may miss facets (still sound)",) if loose else ()


#: Formulations by name. Each adds the relaxation of ``G`` groups of one layer to a model, given the columns of their
#: pre- and post-activations, ``(G, k)`` each, and returns notes where rows are looser than the relaxation.
FORMULATIONS: dict[str, Callable[[Model, JointRelaxation, np.ndarray, np.ndarray], tuple[str, ...]]] = {
    "vertex": _vertex_rows,
    "hull": _hull_rows,
}
