"""VNN-LIB 1.0 as the verifier competition uses it (VNN-COMP 2021 to 2024; https://www.vnnlib.org).

A file's assertions describe what is *unsafe*: inputs ``X_i`` (the flattened input) with outputs ``Y_j`` that break the
property. Their negation is the :class:`Specification`: for each box of inputs, in every clause a row that holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from kreludomain.errors import InputError
from kreludomain.network import Network, with_input
from kreludomain.packed import read_packed
from kreludomain.property.box import Box
from kreludomain.property.claim import Claim
from kreludomain.property.specification import Property, Specification
from kreludomain.property.vnnlib.expressions import MalformedError, parse
from kreludomain.property.vnnlib.formula import Atom, Variable, read
from kreludomain.property.vnnlib.normal_form import Conjunct, InputBounds, normal_form, number

__all__ = ["load_vnnlib", "parse_vnnlib"]


def load_vnnlib(path: str | Path, network: Network) -> Specification:
    """The specification of a network in a VNN-LIB file (``.vnnlib``, or compressed with gzip).

    Raises :class:`InputError`, with file and line, for a file that cannot be read, an expression that is not in the
    language or not linear, variables that the network has not, and inputs without both bounds.
    """
    try:
        text = read_packed(path).decode()
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a text file") from None
    return parse_vnnlib(text, network, str(path))


def parse_vnnlib(text: str, network: Network, source: str = "vnnlib") -> Specification:
    """As :func:`load_vnnlib`, from the text of a file; errors begin with ``source``."""
    try:
        formula, declared = read(parse(text))
        _check_declared(declared, network)
        found = normal_form(formula)
        return _specification(found.parts, network, found.conflict)
    except MalformedError as error:
        place = f"{source}:{error.line}" if error.line else source
        raise InputError(f"{place}: {error}") from None


def _check_declared(declared: Mapping[Variable, int], network: Network) -> None:
    for variable, line in declared.items():
        node, word = (network.input, "inputs") if variable.kind == "X" else (network.output, "outputs")
        if variable.kind == "Y" and network.head is not None and network.head.kind == "ArgMax":
            raise MalformedError(line, f"{variable}: the file's output is a class, which no bounds are of")
        size = math.prod(node.shape)
        if variable.entry >= size:
            kind = variable.kind
            raise MalformedError(line, f"{variable}: the network has {size} {word}, {kind}_0 to {kind}_{size - 1}")


def _specification(conjuncts: list[Conjunct], network: Network, conflict: str) -> Specification:
    """One property for each box; a clause is the negation of a conjunction. Without any, ``conflict`` says why."""
    atoms = (atom for conjunct in conjuncts for atom in conjunct.atoms)
    joined = any(variable.kind == "X" for atom in atoms for variable in atom.linear.terms)
    about = with_input(network) if joined else network
    first_output = network.size(network.input.name) if joined else 0
    outputs, inputs = about.size(about.output.name), network.size(network.input.name)
    by_box: dict[tuple[float, ...], list[tuple[Atom, ...]]] = {}
    for conjunct in conjuncts:
        by_box.setdefault(_bounds(conjunct, inputs), []).append(conjunct.atoms)
    shape = (1, *network.input.shape)
    properties = []
    for bounds, clauses in by_box.items():
        lower, upper = (part.reshape(shape) for part in torch.tensor(bounds, dtype=torch.float64).split(inputs))
        properties.append(Property(Box(lower, upper), _claim(clauses, outputs, first_output)))
    note = "" if properties else f"no input and output satisfy the assertions: {conflict}"
    return Specification(about, tuple(properties), note)


def _bounds(conjunct: Conjunct, inputs: int) -> tuple[float, ...]:
    """All lower bounds, then all upper ones."""
    intervals = [conjunct.box.get(index, InputBounds()) for index in range(inputs)]
    for index, interval in enumerate(intervals):
        if math.isinf(interval.lower) or math.isinf(interval.upper):
            missing = "lower" if math.isinf(interval.lower) else "upper"
            raise MalformedError(0, f"X_{index} has no {missing} bound")
    return (*(interval.lower for interval in intervals), *(interval.upper for interval in intervals))


def _claim(clauses: list[tuple[Atom, ...]], outputs: int, first_output: int) -> Claim:
    """The negation: in every clause, an atom ``linear <= 0`` is false, ``linear > 0`` (``>= 0`` if it is strict).

    A clause without atoms is broken everywhere: one row that is never positive.
    """
    rows: list[tuple[int, Atom | None]] = [
        (position, atom) for position, atoms in enumerate(clauses) for atom in atoms or (None,)
    ]
    C = torch.zeros(len(rows), outputs, dtype=torch.float64)
    d = torch.full((len(rows),), -1.0, dtype=torch.float64)
    for row, (_, atom) in enumerate(rows):
        if atom is None:
            continue
        d[row] = number(atom.linear.constant, atom.line)
        for variable, coefficient in atom.linear.terms.items():
            column = variable.entry + (first_output if variable.kind == "Y" else 0)
            C[row, column] = number(coefficient, atom.line)
    clause = torch.tensor([position for position, _ in rows], dtype=torch.int64)
    non_strict = torch.tensor([atom is not None and atom.strict for _, atom in rows], dtype=torch.bool)
    return Claim(C, d, clause, non_strict)
