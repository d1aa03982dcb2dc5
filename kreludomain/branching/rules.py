"""Branching rules: which neuron of a subproblem is split next.

A rule gives every neuron of every subproblem a score. It is one class, and a line in :data:`RULES` where it is to have
a name. Whatever the scores are, every subproblem stays counted, so a rule decides how long a search takes, and never
what is true.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.bounding.dual import Multipliers, SplitDual
from kreludomain.errors import InputError, did_you_mean
from kreludomain.options import Options
from kreludomain.property import Objective


@dataclass(frozen=True, eq=False)
class SplitCandidates:
    """``m`` subproblems of a dual over ``N`` neurons, those of all activations in order.

    ``objective`` has a row for each subproblem, ``signs`` ``(N, m)`` are those that are decided (1, -1; 0: open), and
    ``multipliers`` prove the bounds ``lower`` ``(m,)``.
    """

    dual: SplitDual
    objective: Objective
    signs: Tensor
    multipliers: Multipliers
    lower: Tensor

    @cached_property
    def _back_substituted(self) -> tuple[Tensor, Tensor]:
        return self.dual.branching_scores(self.objective, self.signs, self.multipliers)

    @property
    def relaxation_losses(self) -> Tensor:
        """The largest loss of the bound by each neuron's relaxation, ``(N, m)``: the scores of BaBSR."""
        return self._back_substituted[0]

    @property
    def minimisers(self) -> Tensor:
        """The inputs ``(m, *input_shape)`` where the relaxed network's minimum is."""
        return self._back_substituted[1]

    @cached_property
    def splittable(self) -> Tensor:
        """The neurons that can be split, ``(N, m)``: an unstable ReLU whose sign is not decided yet."""
        return self.dual.splittable[:, None].to(self.signs.device) & (self.signs == 0)


class BranchingRule(Options, ABC):
    """A rule: a frozen object of options, whose types are checked when it is made."""

    @abstractmethod
    def scores(self, candidates: SplitCandidates) -> Tensor:
        """A score for each neuron in each subproblem, ``(N, m)``.

        The neuron of the largest score is split. A subproblem whose scores are not positive, or NaN, is not split any
        further; scores of neurons that cannot be split are not looked at.
        """


@dataclass(frozen=True)
class Babsr(BranchingRule):
    """The cost of each neuron's relaxation: the coefficient on it times its chord's intercept.

    Bunel, Lu, Turkaslan, Torr, Kohli, Kumar, "Branch and bound for piecewise linear neural network verification" (JMLR
    2020), section 5.2, with the coefficients of the optimised joint relaxation.
    """

    def scores(self, candidates: SplitCandidates) -> Tensor:
        return candidates.relaxation_losses


@dataclass(frozen=True)
class LargestIntercept(BranchingRule):
    """The neuron whose chord meets the axis highest: the loosest triangle, whatever its weight in the objective."""

    def scores(self, candidates: SplitCandidates) -> Tensor:
        return candidates.dual.intercepts.to(candidates.signs.device).expand(candidates.signs.shape)


#: Rules by name.
RULES: dict[str, type[BranchingRule]] = {"babsr": Babsr, "intercept": LargestIntercept}


def make_rule(rule: str | BranchingRule) -> BranchingRule:
    """A rule from its name; a rule is returned as it is. Raises :class:`InputError` for an unknown name."""
    if not isinstance(rule, str):
        return rule
    if rule not in RULES:
        raise InputError(f"rule: '{rule}' is not one of {', '.join(RULES)}{did_you_mean(rule, RULES)}")
    return RULES[rule]()


def masked_scores(rule: BranchingRule, candidates: SplitCandidates) -> Tensor:
    """A rule's scores, 0 where there is nothing to split. Raises :class:`InputError` for scores of another shape."""
    scores = rule.scores(candidates)
    if scores.shape != candidates.signs.shape:
        raise InputError(
            f"branching rule {type(rule).__name__}: scores of shape {tuple(candidates.signs.shape)} are expected, "
            f"not {tuple(scores.shape)}"
        )
    return torch.where(candidates.splittable, scores, 0.0)
