"""Moments of a network's output: with one ReLU layer exact and the others linearised, or layer by layer.

With one ReLU layer kept, everything before and after it is linearised (:func:`network_moments`). The network is then
affine-ReLU-affine, plus a linear part where the graph has branches around the layer:
``f(x) ~ A x + B max(P x + d, 0) + c``, whose moments are exact for a normal input. Jacobian-vector and vector-Jacobian
products use the network's own operators, not matrices of layers, so every graph and every affine operator works.

Layer by layer (:func:`propagated_moments`), every ReLU has its exact moments under the assumption that its input is
normal. Nothing is linearised at a point; the assumption is wrong from the second ReLU layer on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.analysis.moments.gaussian import Gaussian, Moments, square_root
from kreludomain.analysis.moments.relu import active_probability, relu_mean, rule_named
from kreludomain.errors import InputError
from kreludomain.network import Network, Node
from kreludomain.network.operators import AffineOperator


@dataclass(frozen=True, eq=False)
class Linearised:
    """A network with one ReLU layer of ``k`` neurons kept, for an input ``mean + factor z`` (``r`` entries of ``z``).

    ``pre_activation`` is the normal distribution of the layer's input ``p``, with the same ``z``. The output is
    ``output_mean + skip z + jacobian (max(p, 0) - E max(p, 0))``: its mean ``(m,)``, the linear part along branches
    around the layer ``(m, r)``, and the Jacobian of the output in the layer's value ``(m, k)``.
    """

    pre_activation: Gaussian
    output_mean: Tensor
    skip: Tensor
    jacobian: Tensor

    def moments(self, rule: str = "exact") -> Moments:
        """Mean and covariance of the output of the linearised network; exact for it by the rule ``exact``."""
        mean, covariance = self.pre_activation.mean, self.pre_activation.covariance
        hidden = rule_named(rule)(mean, covariance)
        slope = active_probability(mean, covariance.diagonal())
        through = self.jacobian @ (slope[:, None] * self.pre_activation.factor)  # Cov(max(p, 0), z) by Stein's lemma
        cross = self.skip @ through.T
        around = self.skip @ self.skip.T + cross + cross.T
        return Moments(self.output_mean, self.jacobian @ hidden @ self.jacobian.T + around)


def relu_layers(network: Network) -> tuple[str, ...]:
    """The names of the ReLU layers, in topological order: each can be the one that is kept."""
    return tuple(node.name for node in network.nodes if node.is_relu)


def network_moments(
    network: Network, x: Gaussian, layer: str | None, rule: str = "exact", point: Tensor | None = None
) -> Moments:
    """Mean and covariance of the output for a normal input, with the ReLU ``layer`` kept and all others linearised.

    Exact where ``layer`` is the only ReLU layer, an estimate otherwise. With ``None`` the whole network is linearised.
    ``point`` ``(*input_shape)`` is where to linearise, the input's mean if not given. Raises :class:`InputError` for a
    layer that is not a ReLU of the network, an input or point that does not fit, and activations other than ReLU.
    """
    x = x.fit(network)
    with torch.no_grad():
        if layer is None:
            return _linear_moments(network, x, point)
        return linearise(network, x, layer, point).moments(rule)


def linearise(network: Network, x: Gaussian, layer: str, point: Tensor | None = None) -> Linearised:
    """The network with only ``layer`` kept.

    Nodes before it are linearised at ``point`` (``None``: the input's mean), nodes after it at the layer's mean. Raises
    what :func:`network_moments` raises.
    """
    kept, start = _relu(network, layer), _point(network, x, point)
    values = _values(network, start)
    source = kept.inputs[0]
    moved = _rows(_jvp(network, values, _directions(x, start))[source])
    pre_activation = Gaussian(values[source].flatten() + moved[:, -1], moved[:, :-1])
    hidden = relu_mean(pre_activation.mean, (pre_activation.factor**2).sum(1))
    values = _values(network, start, {layer: hidden.reshape(1, *kept.shape)})
    skip = _rows(_jvp(network, values, _directions(x, start), fixed=layer)[network.output.name])
    output_mean = values[network.output.name].flatten() + skip[:, -1]
    return Linearised(pre_activation, output_mean, skip[:, :-1], _vjp(network, values, layer))


def propagated_moments(network: Network, x: Gaussian, rule: str = "exact") -> Moments:
    """Mean and covariance of the output with exact moments at every ReLU layer, as if its input were normal.

    Values are affine forms ``mean + F z`` in standard normal symbols ``z``, which branches of the graph share. A ReLU
    is ``E max(p, 0) + Phi (p - E p) + e``: ``Phi = P(p > 0)`` is the slope of the best linear predictor, and the
    residual ``e``, uncorrelated with ``z``, becomes new symbols. Exact for one ReLU layer, an estimate for more. Raises
    :class:`InputError` for activations other than ReLU and an input that does not fit.
    """
    x, covariance_of = x.fit(network), rule_named(rule)
    means, factors = {network.input.name: x.mean[None]}, {network.input.name: _columns(x)}
    with torch.no_grad():
        for node in network.nodes[1:]:
            inputs = [means[name] for name in node.inputs]
            columns = _equally_many([factors[name] for name in node.inputs])
            if isinstance(node.operator, AffineOperator):
                means[node.name], factors[node.name] = node.operator(*inputs), node.operator.linear(*columns)
                continue
            _slope(node, means)  # raises for activations other than ReLU
            mean, factor = inputs[0].flatten(), _rows(columns[0])
            covariance = factor @ factor.T
            kept = active_probability(mean, covariance.diagonal())[:, None] * factor
            residual = square_root(covariance_of(mean, covariance) - kept @ kept.T)
            means[node.name] = relu_mean(mean, covariance.diagonal()).reshape(1, *node.shape)
            # New symbols come after all that exist, so that they are not those of another layer.
            taken = max(len(f) for f in factors.values())
            gap = kept.new_zeros(len(kept), taken - kept.shape[1])
            factors[node.name] = torch.cat([kept, gap, residual], 1).T.reshape(-1, *node.shape)
    factor = _rows(factors[network.output.name])
    return Moments(means[network.output.name].flatten(), factor @ factor.T)


def _equally_many(factors: list[Tensor]) -> list[Tensor]:
    """Columns ``(r, *shape)``, padded with zeros to the same number of symbols ``r``."""
    most = max(map(len, factors))
    return [torch.cat([f, f.new_zeros(most - len(f), *f.shape[1:])]) for f in factors]


def expected_output(network: Network, x: Gaussian, layer: str) -> Tensor:
    """Only the mean of :func:`network_moments`, ``(m,)``: cheaper, and differentiable in the input's mean and factor.

    ``x`` has the network's shape and dtype (:meth:`Gaussian.fit`).
    """
    kept = _relu(network, layer)
    values = _values(network, x.mean[None])
    factor = _rows(_jvp(network, values, _columns(x))[kept.inputs[0]])
    hidden = relu_mean(values[kept.inputs[0]].flatten(), (factor**2).sum(1))
    return _values(network, x.mean[None], {layer: hidden.reshape(1, *kept.shape)})[network.output.name].flatten()


def _linear_moments(network: Network, x: Gaussian, point: Tensor | None) -> Moments:
    start = _point(network, x, point)
    values = _values(network, start)
    moved = _rows(_jvp(network, values, _directions(x, start))[network.output.name])
    return Moments(values[network.output.name].flatten() + moved[:, -1], moved[:, :-1] @ moved[:, :-1].T)


def _relu(network: Network, layer: str) -> Node:
    node = network[layer]
    if not node.is_relu:
        known = ", ".join(relu_layers(network)) or "none"
        raise InputError(f"layer '{layer}' is not a ReLU of the network; its ReLU layers are {known}")
    return node


def _point(network: Network, x: Gaussian, point: Tensor | None) -> Tensor:
    """Where to linearise, ``(1, *input_shape)``."""
    if point is None:
        return x.mean[None]
    if tuple(point.shape) != network.input.shape:
        raise InputError(f"moments: a point of shape {tuple(point.shape)}, the network takes {network.input.shape}")
    return point[None].to(x.mean)


def _columns(x: Gaussian) -> Tensor:
    """The columns of the factor as inputs, ``(r, *shape)``."""
    return x.factor.T.reshape(-1, *x.mean.shape)


def _directions(x: Gaussian, start: Tensor) -> Tensor:
    """The columns of the factor, and as last one the difference of the mean and ``start``, ``(r + 1, *shape)``."""
    return torch.cat([_columns(x), x.mean - start])


def _rows(columns: Tensor) -> Tensor:
    """``(r, *shape)`` as a matrix ``(n, r)`` with a row for each entry."""
    return columns.flatten(1).T


def _values(network: Network, x: Tensor, given: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The value of every node, ``(1, *shape)``; nodes in ``given`` have the values there instead of computed ones."""
    values, given = {network.input.name: x}, given or {}
    for node in network.nodes[1:]:
        inputs = (values[name] for name in node.inputs)
        values[node.name] = given[node.name] if node.name in given else node.operator(*inputs)
    return values


def _jvp(
    network: Network, values: Mapping[str, Tensor], directions: Tensor, fixed: str | None = None
) -> dict[str, Tensor]:
    """Jacobian-vector products of every node, ``(r, *shape)``, for ``r`` directions of the input.

    ``values`` are where slopes are taken; the node ``fixed`` counts as a constant.
    """
    products = {network.input.name: directions}
    for node in network.nodes[1:]:
        inputs = [products[name] for name in node.inputs]
        if node.name == fixed:
            products[node.name] = torch.zeros_like(inputs[0])
        elif isinstance(node.operator, AffineOperator):
            products[node.name] = node.operator.linear(*inputs)
        else:
            products[node.name] = inputs[0] * _slope(node, values)
    return products


def _vjp(network: Network, values: Mapping[str, Tensor], layer: str) -> Tensor:
    """The Jacobian of the output in the value of ``layer``, ``(m, k)``, by vector-Jacobian products."""
    outputs = network.size(network.output.name)
    unit = torch.eye(outputs, dtype=network.dtype, device=network.device).reshape(outputs, *network.output.shape)
    products = {network.output.name: unit}
    for node in reversed(network.nodes):
        if node.name == layer:
            break  # everything that depends on it comes after it
        if node.name not in products or not node.inputs:
            continue
        coefficients = products.pop(node.name)
        if isinstance(node.operator, AffineOperator):
            parts = node.operator.transpose(coefficients)
        else:
            parts = (coefficients * _slope(node, values),)
        for name, part in zip(node.inputs, parts, strict=True):
            products[name] = products[name] + part if name in products else part
    if layer not in products:
        return unit.new_zeros(outputs, network.size(layer))
    return products[layer].flatten(1)


def _slope(node: Node, values: Mapping[str, Tensor]) -> Tensor:
    """The derivative of a ReLU, entry by entry. Raises :class:`InputError` for another activation."""
    if not node.is_relu:
        raise InputError(f"node '{node.name}': moments know no {node.operator.kind}, only ReLU")
    source = values[node.inputs[0]]
    return (source > 0).to(source)
