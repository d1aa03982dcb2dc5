"""Moments of a network's output by linearisation: around one ReLU layer that is kept, or through every layer.

With one layer kept, everything before and after it is linearised.

A network is then affine-ReLU-affine, with a linear part beside it where the graph has branches around the layer:
``f(x) ~ A x + B max(P x + d, 0) + c``. Its moments are exact for a normal input. Jacobians are those of the network's
own operators, pushed forward with the columns of the input's factor or pulled back from the outputs, never built from
matrices of layers, so that every graph and every operator works.

Through every layer (:func:`propagated_moments`), each ReLU takes its exact moments under the assumption that what
reaches it is normal: nothing is linearised at a point, and what is wrong is the assumption from the second layer on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.analysis.moments.gaussian import Gaussian, Moments, root
from kreludomain.analysis.moments.relu import active, relu_mean, rule_named
from kreludomain.errors import InputError
from kreludomain.network import Network, Node
from kreludomain.network.operators import AffineOperator, Relu


@dataclass(frozen=True, eq=False)
class Linearised:
    """A network with one ReLU layer of ``k`` neurons kept, for an input ``mean + factor z`` (``r`` entries of ``z``).

    ``before`` is the normal distribution of the layer's input, with the same ``z``. The output is
    ``output + skip z + after (max(p, 0) - E max(p, 0))``: ``output`` ``(m,)`` is its mean, ``skip`` ``(m, r)`` what
    goes around the layer, ``after`` ``(m, k)`` what goes through it.
    """

    before: Gaussian
    output: Tensor
    skip: Tensor
    after: Tensor

    def moments(self, rule: str = "exact") -> Moments:
        """Mean and covariance of the output, exact for what is linearised by the rule ``exact``."""
        mean, covariance = self.before.mean, self.before.covariance
        hidden = rule_named(rule)(mean, covariance)
        slope = active(mean, covariance.diagonal())
        through = self.after @ (slope[:, None] * self.before.factor)  # Cov(max(p, 0), z) by Stein's lemma
        crossed = self.skip @ through.T
        around = self.skip @ self.skip.T + crossed + crossed.T
        return Moments(self.output, self.after @ hidden @ self.after.T + around)


def relu_layers(network: Network) -> tuple[str, ...]:
    """The names of the ReLU layers, in topological order: where a network can be linearised around."""
    return tuple(node.name for node in network.nodes if isinstance(node.operator, Relu))


def network_moments(
    network: Network, x: Gaussian, layer: str | None, rule: str = "exact", point: Tensor | None = None
) -> Moments:
    """Mean and covariance of the output for a normal input, the ReLU ``layer`` kept and all else linearised.

    Exact where ``layer`` is the only ReLU layer, an estimate otherwise. ``None`` keeps no layer: the output at the
    mean, and the covariance of the Jacobian there. ``point`` ``(*input_shape)`` is where to linearise instead of the
    mean.
    Raises :class:`InputError` for a layer that is no ReLU of the network, or an input that does not fit.
    """
    x = x.fit(network)
    with torch.no_grad():
        if layer is None:
            return _linear_moments(network, x, point)
        return linearise(network, x, layer, point).moments(rule)


def linearise(network: Network, x: Gaussian, layer: str, point: Tensor | None = None) -> Linearised:
    """The network with only ``layer`` kept; what comes before is linearised at ``point`` (``None``: the input's mean),
    what comes after where the layer has its mean."""
    kept, start = _relu(network, layer), _point(network, x, point)
    values = _values(network, start)
    pushed = _push(network, values, _directions(x, start))
    source = kept.inputs[0]
    moved = _rows(pushed[source])
    before = Gaussian(values[source].flatten() + moved[:, -1], moved[:, :-1])
    hidden = relu_mean(before.mean, (before.factor**2).sum(1))
    values = _values(network, start, {layer: hidden.reshape(1, *kept.shape)})
    skip = _rows(_push(network, values, _directions(x, start), still=layer)[network.output.name])
    output = values[network.output.name].flatten() + skip[:, -1]
    return Linearised(before, output, skip[:, :-1], _pull(network, values, layer))


def propagated_moments(network: Network, x: Gaussian, rule: str = "exact") -> Moments:
    """Mean and covariance of the output with exact moments at every ReLU layer, as if each were given normal values.

    Values are affine forms ``mean + F z`` in standard normal symbols ``z``, which branches of the graph share. A ReLU
    is ``E max(p, 0) + Phi (p - E p) + e``: the slope ``Phi = P(p > 0)`` is the best linear predictor's, and what it
    leaves, uncorrelated with ``z``, becomes new symbols. Exact for one ReLU layer, an estimate for more.
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
            _slope(node, means)  # refuses what is no ReLU
            mean, factor = inputs[0].flatten(), _rows(columns[0])
            covariance = factor @ factor.T
            kept = active(mean, covariance.diagonal())[:, None] * factor
            left = root(covariance_of(mean, covariance) - kept @ kept.T)
            means[node.name] = relu_mean(mean, covariance.diagonal()).reshape(1, *node.shape)
            # New symbols go behind all that exist, so that those of other layers stay apart from them.
            taken = max(len(f) for f in factors.values())
            gap = kept.new_zeros(len(kept), taken - kept.shape[1])
            factors[node.name] = torch.cat([kept, gap, left], 1).T.reshape(-1, *node.shape)
    factor = _rows(factors[network.output.name])
    return Moments(means[network.output.name].flatten(), factor @ factor.T)


def _equally_many(factors: list[Tensor]) -> list[Tensor]:
    """Columns ``(r, *shape)`` with zeros for the symbols that only others have."""
    most = max(map(len, factors))
    return [torch.cat([f, f.new_zeros(most - len(f), *f.shape[1:])]) for f in factors]


def expected_output(network: Network, x: Gaussian, layer: str) -> Tensor:
    """The mean of :func:`network_moments` alone, ``(m,)``: cheaper, and differentiable in the input's mean and factor.

    ``x`` fits the network (:meth:`Gaussian.fit`).
    """
    kept = _relu(network, layer)
    values = _values(network, x.mean[None])
    factor = _rows(_push(network, values, _columns(x))[kept.inputs[0]])
    hidden = relu_mean(values[kept.inputs[0]].flatten(), (factor**2).sum(1))
    return _values(network, x.mean[None], {layer: hidden.reshape(1, *kept.shape)})[network.output.name].flatten()


def _linear_moments(network: Network, x: Gaussian, point: Tensor | None) -> Moments:
    start = _point(network, x, point)
    values = _values(network, start)
    moved = _rows(_push(network, values, _directions(x, start))[network.output.name])
    return Moments(values[network.output.name].flatten() + moved[:, -1], moved[:, :-1] @ moved[:, :-1].T)


def _relu(network: Network, layer: str) -> Node:
    node = network[layer]
    if not isinstance(node.operator, Relu):
        known = ", ".join(relu_layers(network)) or "none"
        raise InputError(f"layer '{layer}' is no ReLU of the network; its ReLU layers are {known}")
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
    """The columns of the factor and then the way from ``start`` to the mean, ``(r + 1, *shape)``."""
    return torch.cat([_columns(x), x.mean - start])


def _rows(pushed: Tensor) -> Tensor:
    """``(r, *shape)`` as a matrix with a row an entry, ``(n, r)``."""
    return pushed.flatten(1).T


def _values(network: Network, x: Tensor, given: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The value of every node, ``(1, *shape)``, where the nodes of ``given`` have the values given."""
    values, given = {network.input.name: x}, given or {}
    for node in network.nodes[1:]:
        inputs = (values[name] for name in node.inputs)
        values[node.name] = given[node.name] if node.name in given else node.operator(*inputs)
    return values


def _push(
    network: Network, values: Mapping[str, Tensor], directions: Tensor, still: str | None = None
) -> dict[str, Tensor]:
    """How every node moves with the input, ``(r, *shape)``, for ``r`` directions of the input; ``still`` does not."""
    pushed = {network.input.name: directions}
    for node in network.nodes[1:]:
        inputs = [pushed[name] for name in node.inputs]
        if node.name == still:
            pushed[node.name] = torch.zeros_like(inputs[0])
        elif isinstance(node.operator, AffineOperator):
            pushed[node.name] = node.operator.linear(*inputs)
        else:
            pushed[node.name] = inputs[0] * _slope(node, values)
    return pushed


def _pull(network: Network, values: Mapping[str, Tensor], layer: str) -> Tensor:
    """The Jacobian of the output in the value of ``layer``, ``(m, k)``."""
    outputs = network.size(network.output.name)
    seed = torch.eye(outputs, dtype=network.dtype, device=network.device).reshape(outputs, *network.output.shape)
    pulled = {network.output.name: seed}
    for node in reversed(network.nodes):
        if node.name == layer:
            break  # everything that depends on it comes after it
        if node.name not in pulled or not node.inputs:
            continue
        coefficients = pulled.pop(node.name)
        if isinstance(node.operator, AffineOperator):
            parts = node.operator.transpose(coefficients)
        else:
            parts = (coefficients * _slope(node, values),)
        for name, part in zip(node.inputs, parts, strict=True):
            pulled[name] = pulled[name] + part if name in pulled else part
    if layer not in pulled:
        return seed.new_zeros(outputs, network.size(layer))
    return pulled[layer].flatten(1)


def _slope(node: Node, values: Mapping[str, Tensor]) -> Tensor:
    """The derivative of an activation, entry by entry."""
    if not isinstance(node.operator, Relu):
        raise InputError(f"node '{node.name}': moments know no {type(node.operator).__name__}, only ReLU")
    source = values[node.inputs[0]]
    return (source > 0).to(source)
