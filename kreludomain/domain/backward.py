"""Back-substitution, written once.

A linear expression at a node is pushed towards the input, node by node: an affine operator transposes its coefficients,
an activation's *relaxation* replaces them by coefficients on its input and a constant, and the region concretises what
arrives at the input. Every method that bounds backwards is this traversal with other relaxations: constants (interval),
fixed slopes (DeepPoly; Singh et al., POPL 2019, section 4; CROWN; Zhang et al., NeurIPS 2018), and whatever is added.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kreludomain.activations import BackwardRelaxation
from kreludomain.domain.rounding import Rounding
from kreludomain.network import Network, Node
from kreludomain.network.operators import AffineOperator, Input
from kreludomain.property import Objective, Region
from kreludomain.rounding import ROUNDING


@torch.no_grad()
def back_substitute(
    network: Network,
    objective: Objective,
    relaxations: Mapping[str, BackwardRelaxation],
    region: Region,
    rounding: Rounding | None,
    plus: Objective | None = None,
) -> Tensor:
    """Lower bounds ``(B, m)`` of the objectives over the region; without ``rounding``, estimates of them.

    ``relaxations`` has an entry for every activation below the objective's node. An affine operator needs none, and the
    region is that of the input; an entry for either replaces it. With ``plus``, each objective is bounded together with
    one of these, as their sum; they are at the same node or a later one.
    """
    top = objective if plus is None else plus
    pending = {top.node: top.coefficients}
    total = top.constant.expand(region.batch, -1)
    magnitude = total.abs()
    slack = total.new_zeros(()) if rounding is None else rounding.start_error(top)
    for node in reversed(network.ancestors(top.node)):
        coefficients = pending.pop(node.name, None)
        if plus is not None and node.name == objective.node:
            coefficients = objective.coefficients if coefficients is None else objective.coefficients + coefficients
            total, magnitude = total + objective.constant, magnitude + objective.constant.abs()
            if rounding is not None:
                slack = slack + rounding.start_error(objective) + rounding.sum_error(node.name, coefficients)
        if coefficients is None:
            continue
        to_inputs, constant = _relaxation(node, relaxations, region).backward(coefficients)
        total, magnitude = total + constant, magnitude + constant.abs()
        if rounding is not None:
            slack = slack + rounding.relaxation_error(node, coefficients)
        for name, a in zip(node.inputs, to_inputs, strict=bool(to_inputs)):
            if name in pending:
                a = pending[name] + a
                slack = slack if rounding is None else slack + rounding.sum_error(name, a)
            pending[name] = a
    return total - ROUNDING * magnitude - slack


def _relaxation(node: Node, relaxations: Mapping[str, BackwardRelaxation], region: Region) -> BackwardRelaxation:
    if node.name in relaxations:
        return relaxations[node.name]
    if isinstance(node.operator, Input):
        return region
    if isinstance(node.operator, AffineOperator):
        return node.operator
    raise TypeError(f"node '{node.name}': {node.operator.kind} needs a relaxation to be passed backwards")
