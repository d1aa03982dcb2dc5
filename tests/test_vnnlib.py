"""VNN-LIB files: what is read agrees with the formula as it is written, and what is wrong is said with its line."""

from __future__ import annotations

import gzip
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import dense
from torch import Tensor

import kreludomain as kd
from kreludomain.activations import Relu
from kreludomain.network import Network, Node, Runtime, parse_onnx, to_onnx, with_input
from kreludomain.network.operators import Activation, Input, Linear
from kreludomain.property.vnnlib import parse_vnnlib

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT.parent / "shared" / "benchmarks" / "vnncomp2021"


def plain(inputs: int, outputs: int) -> Network:
    """Any network of these sizes."""
    return dense(inputs, outputs)


def declarations(inputs: int, outputs: int) -> str:
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{j}" for j in range(outputs)]
    return "".join(f"(declare-const {name} Real)\n" for name in names)


def unit_box(inputs: int) -> str:
    return "".join(f"(assert (<= X_{i} 1))\n(assert (>= X_{i} -1))\n" for i in range(inputs))


# ---- against the formula itself -------------------------------------------------------------------------------------

#: Numbers as files write them; dyadic, so that float64 is exact and points lie on the bounds.
NUMBERS = ["0", "1", "-1", "0.5", "-.5", "(- 0.5)", "5e-1", "-2.5E-1", "+1.", "(* 0.5 -1)", "(+ 0.5 0.25)", "(- 1 0.5)"]
VARIABLES = ["X_0", "X_1", "Y_0", "Y_1"]
numbers, variables = st.sampled_from(NUMBERS), st.sampled_from(VARIABLES)
terms = st.recursive(
    st.one_of(numbers, variables),
    lambda inner: st.one_of(
        st.builds("(* {} {})".format, numbers, inner),
        st.builds("(* {} {})".format, inner, numbers),
        st.builds("(+ {} {})".format, inner, inner),
        st.builds("(- {} {})".format, inner, inner),
        st.builds("(+ {} {} {})".format, inner, inner, inner),
        st.builds("(- {})".format, inner),
    ),
    max_leaves=4,
)
comparisons = st.sampled_from(["<=", "<", ">=", ">"])
atoms = st.one_of(
    st.builds("({} {} {})".format, comparisons, variables, numbers),
    st.builds("({} {} {})".format, comparisons, numbers, variables),
    st.builds("({} {} {})".format, comparisons, variables, variables),
    st.builds("({} {} {})".format, comparisons, terms, terms),
)
formulas = st.recursive(
    atoms,
    lambda inner: st.builds(
        lambda head, parts: f"({head} {' '.join(parts)})",
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=1, max_size=4),
    ),
    max_leaves=8,
)


def nested(text: str) -> Any:
    """An s-expression as lists of strings."""
    stack: list[list[Any]] = [[]]
    for token in text.replace("(", " ( ").replace(")", " ) ").split():
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    (only,) = stack[0]
    return only


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}


def value(expression: Any, at: dict[str, float]) -> Any:
    """A formula's truth, or a term's value, as SMT-LIB defines them."""
    if isinstance(expression, str):
        return at[expression] if expression in at else float(expression)
    head, *rest = expression
    operands = [value(part, at) for part in rest]
    if head == "and":
        return all(operands)
    if head == "or":
        return any(operands)
    if head in COMPARE:
        return COMPARE[head](*operands)
    if head == "+":
        return sum(operands)
    if head == "*":
        return operands[0] * operands[1]
    return -operands[0] if len(operands) == 1 else operands[0] - sum(operands[1:])


def points() -> tuple[Tensor, Tensor]:
    """Inputs and outputs on a grid that holds every constant, and one beyond the box."""
    # float64 computes exactly with these numbers
    axis = torch.tensor([-1.25, -1.0, -0.5, -0.25, 0.0, 0.5, 1.0], dtype=torch.float64)
    chosen = torch.randint(len(axis), (50, 4), generator=torch.Generator().manual_seed(0))
    return axis[chosen[:, :2]], axis[chosen[:, 2:]]


@settings(max_examples=100, deadline=None)
@given(st.lists(formulas, min_size=1, max_size=4))
def test_the_specification_is_broken_where_the_assertions_are_true(assertions: list[str]) -> None:
    network = plain(2, 2)
    text = declarations(2, 2) + unit_box(2) + "\n".join(f"(assert {formula})" for formula in assertions)
    x, y = points()
    trees = [nested(formula) for formula in assertions]
    unsafe = []
    for point in torch.cat([x, y], 1).tolist():
        at = dict(zip(VARIABLES, point, strict=True))
        inside = all(-1 <= coordinate <= 1 for coordinate in point[:2])
        unsafe.append(inside and all(value(tree, at) for tree in trees))
    question = parse_vnnlib(text, network)
    assert bool(question.note) is not bool(question.properties)
    outputs = y if question.network is network else torch.cat([x, y], 1)
    assert question.broken(x, outputs).tolist() == unsafe


@given(st.floats(-1e300, 1e300).filter(lambda v: v != 0), st.integers(-7, 7).filter(bool))
def test_bounds_are_as_written_and_never_inside_what_they_say(number: float, factor: int) -> None:
    network = plain(1, 1)
    text = f"{declarations(1, 1)} (assert (>= X_0 -1.7e308)) (assert (<= X_0 {number!r}))"
    assert float(parse_vnnlib(text, network).properties[0].region.upper) == number
    side = "<=" if factor > 0 else ">="
    other = "(assert (>= X_0 -1.7e308))" if factor > 0 else "(assert (<= X_0 1.7e308))"
    text = f"{declarations(1, 1)} {other} (assert ({side} (* {factor} X_0) {number!r}))".replace("(>= (*", "(<= (*")
    region = parse_vnnlib(text, network).properties[0].region
    exact = Fraction(number) / factor
    if factor > 0:
        assert exact <= Fraction(float(region.upper)) <= exact + abs(exact) / 2**51 + Fraction(1e-320)
    else:
        assert exact >= Fraction(float(region.lower)) >= exact - abs(exact) / 2**51 - Fraction(1e-320)


def test_strict_bounds_leave_out_their_end_and_nothing_else() -> None:
    text = declarations(1, 1) + "(assert (and (< X_0 0.5) (> X_0 0.25)))"
    region = parse_vnnlib(text, plain(1, 1)).properties[0].region
    ends = torch.tensor([[0.5], [0.25]], dtype=torch.float64)
    assert region.contains(ends).tolist() == [False, False]
    inside = torch.nextafter(ends, ends.flip(0))
    assert region.contains(inside).tolist() == [True, True]


# ---- files as the competition has them ------------------------------------------------------------------------------

ACAS_BOX = """
; Unscaled Input 0: (55947.691, 60760)
(assert (<= X_0 0.679857769))
(assert (>= X_0 0.6))
(assert (<= X_1 -0.45))   ; both below zero
(assert (>= X_1 -0.5))
"""


def test_unsafe_if_an_output_is_maximal() -> None:
    """ACAS Xu, property 2: a conjunction of atoms, so one clause."""
    text = declarations(2, 3) + ACAS_BOX + "(assert (<= Y_1 Y_0))\n(assert (<= Y_2 Y_0))\n"
    (case,) = parse_vnnlib(text, plain(2, 3)).properties
    assert case.region.lower.tolist() == [[0.6, -0.5]]
    assert case.region.upper.tolist() == [[0.679857769, -0.45]]
    assert case.claim.clause_count == 1
    outputs = torch.tensor([[2.0, 1.0, 1.0], [2.0, 3.0, 1.0], [2.0, 2.0, 2.0]], dtype=torch.float64)
    assert case.claim.holds(case.claim.margins(outputs)).tolist() == [False, True, False]


def test_unsafe_if_another_class_is_above() -> None:
    """Robustness: a disjunction of atoms, so a clause each; equal outputs are unsafe."""
    text = declarations(2, 3) + ACAS_BOX + "(assert (or\n\t(and (>= Y_0 Y_1))\n\t(and (>= Y_2 Y_1))\n))"
    (case,) = parse_vnnlib(text, plain(2, 3)).properties
    same = kd.robustness(1, 3)
    outputs = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).round()
    assert torch.equal(case.claim.holds(case.claim.margins(outputs)), same.holds(same.margins(outputs)))
    assert case.claim.clause_count == 2


def test_two_boxes_and_several_outputs() -> None:
    """ACAS Xu, property 6: a disjunction of boxes beside one of outputs."""
    box = "(and (<= X_0 {}) (>= X_0 {}) (<= X_1 1) (>= X_1 0))"
    boxes = f"(assert (or {box.format(1, 0)} {box.format(-2, -3)}))"
    text = declarations(2, 3) + boxes + "(assert (or (and (<= Y_1 Y_0)) (and (<= Y_2 Y_0))))"
    cases = parse_vnnlib(text, plain(2, 3)).properties
    assert [case.region.lower.tolist() for case in cases] == [[[0.0, 0.0]], [[-3.0, 0.0]]]
    assert [case.claim.clause_count for case in cases] == [2, 2]


def test_boxes_with_outputs_of_their_own() -> None:
    """A disjunction of conjunctions that mix both; what has the same box is one case, what is empty is none."""
    part = "(and (<= X_0 {}) (>= X_0 {}) (<= Y_0 {}))"
    parts = [part.format(1, 0, 5), part.format(3, 2, 6), part.format(1, 0, 7), part.format(0, 1, 8)]
    text = declarations(1, 1) + f"(assert (or {' '.join(parts)}))"
    cases = parse_vnnlib(text, plain(1, 1)).properties
    assert [case.region.upper.item() for case in cases] == [1.0, 3.0]
    assert [case.claim.d.tolist() for case in cases] == [[-5.0, -7.0], [-6.0]]


def test_inputs_are_in_the_order_of_the_flattened_input() -> None:
    size = 24
    text = declarations(size, 1) + "".join(
        f"(assert (<= X_{i} {i + 1})) (assert (>= X_{i} {i}))" for i in reversed(range(size))
    )
    weight = torch.zeros(1, 4, dtype=torch.float64)
    network = Network((Node("in", Input((2, 3, 4))), Node("out", Linear(weight, None, (2, 3, 4)), ("in",))))
    region = parse_vnnlib(text, network).properties[0].region
    assert torch.equal(region.lower, torch.arange(size, dtype=torch.float64).reshape(1, 2, 3, 4))


def test_nothing_said_of_outputs_is_broken_everywhere() -> None:
    network = plain(2, 2)
    question = parse_vnnlib(declarations(2, 2) + unit_box(2), network)
    result = kd.certify(network, question.properties[0].region, question.properties[0].claim, "deeppoly")
    assert result.verdict == "falsified"


def test_many_assertions_and_one_disjunction_do_not_multiply() -> None:
    """As many as 3072 inputs, twenty boxes: products of what is empty are not built."""
    halves = "".join(f"(assert (or (<= X_{i} 0.1) (>= X_{i} 2)))" for i in range(300))
    boxes = " ".join(f"(and (<= X_0 {i}) (>= X_0 -{i}) (>= Y_0 {i}))" for i in range(20))
    text = declarations(3072, 10) + unit_box(3072) + halves + f"(assert (or {boxes}))"
    question = parse_vnnlib(text, plain(3072, 10))
    assert len(question.properties) == 2  # the point 0, and the box [-1, 0.1]
    assert question.properties[1].claim.clause_count == 19


@pytest.mark.parametrize("compressed", [False, True])
def test_files(tmp_path: Path, compressed: bool) -> None:
    text = declarations(2, 3) + ACAS_BOX + "(assert (<= 3.99 Y_0))"
    path = tmp_path / ("property.vnnlib" + ".gz" * compressed)
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    (case,) = kd.load_vnnlib(path, plain(2, 3)).properties
    assert case.claim.d.tolist() == [3.99]
    assert case.claim.C.tolist() == [[-1, 0, 0]]


# ---- inputs and outputs together ------------------------------------------------------------------------------------


def test_joined_networks_compute_input_and_output() -> None:
    made = dense(3, 6, 2, seed=3)
    read = parse_onnx(to_onnx(made), "made")
    assert read.model is not None
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for network in (made, read):
        joined = with_input(network)
        torch.testing.assert_close(joined(x.double()), torch.cat([x.double(), network(x.double())], 1))
        assert torch.equal(Runtime(joined)(x), torch.cat([x, Runtime(network)(x)], 1))


@pytest.mark.parametrize("method", kd.METHODS)
def test_what_relates_outputs_to_inputs_is_decided(method: str) -> None:
    """y = ReLU(x_0) + ReLU(x_1) is never below x_0 + x_1, and is it at times below x_0 + x_1 + 1."""
    nodes = (
        Node("in", Input((2,))),
        Node("hidden", Activation(Relu(), (2,)), ("in",)),
        Node("out", Linear(torch.ones(1, 2).double(), None, (2,)), ("hidden",)),
    )
    network = Network(nodes)
    for bound, verdict in (("0.01", "verified"), ("-1", "falsified")):
        text = f"(assert (<= (+ Y_0 {bound}) (+ X_0 X_1)))"
        question = parse_vnnlib(declarations(2, 1) + unit_box(2) + text, network)
        (case,) = question.properties
        found = kd.certify(question.network, case.region, case.claim, method)
        if method not in ("interval", "zonotope", "deeppoly") or verdict == "falsified":
            assert found.verdict == verdict
        assert found.verdict in (verdict, "unknown")


def test_linear_conditions_on_inputs_are_part_of_the_question() -> None:
    """The output is above 1 only where the condition on the inputs excludes it."""
    network = Network((Node("in", Input((2,))), Node("out", Linear(torch.ones(1, 2).double(), None, (2,)), ("in",))))
    text = declarations(2, 1) + unit_box(2) + "(assert (<= (+ X_0 X_1) 0.5)) (assert (>= Y_0 1))"
    (case,) = parse_vnnlib(text, network).properties
    outputs = torch.tensor([[0.25, 0.25, 1.5], [0.5, 0.25, 1.5], [0.25, 0.25, 0.5]], dtype=torch.float64)
    assert case.claim.broken(case.claim.margins(outputs)).tolist() == [True, False, False]


# ---- what is wrong --------------------------------------------------------------------------------------------------

HEAD = "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(assert (<= X_0 1))\n(assert (>= X_0 0))\n"
BAD = {
    "(assert (<= Y_0 1)": "bad:5: '(' is never closed",
    "(assert (<= Y_0 1)))": "bad:5: ')' without a '(' before it",
    "\n\n(assert (<= (sin Y_0) 1))": "bad:7: a number, a variable, +, - or * is expected, not '(sin ...)'",
    "(assert (=> (<= Y_0 1) (<= Y_0 2)))": "bad:5: and, or, <=, >=, < or > is expected, not '(=> ...)'",
    "(assert Y_0)": "bad:5: and, or, <=, >=, < or > is expected, not 'Y_0'",
    "(assert)": "bad:5: '(assert ...)' takes 1 operand, is given 0",
    "(assert (<= Y_0))": "bad:5: '(<= ...)' takes 2 operands, is given 1",
    "(assert (and))": "bad:5: '(and ...)' takes at least one operand, is given 0",
    "(assert (<= Y_0 (+)))": "bad:5: '(+ ...)' takes at least one operand, is given 0",
    "(assert (<= Y_1 1))": "bad:5: 'Y_1' is neither a number nor a declared variable",
    "(assert (<= Y_0 1.2.3))": "bad:5: '1.2.3' is neither a number nor a declared variable",
    "(assert (<= Y_0 nan))": "bad:5: 'nan' is neither a number nor a declared variable",
    "(assert (<= Y_0 -1e999))": "bad:5: '-1e999' is beyond float64",
    "(assert (<= Y_0 (* 1e300 1e300)))": "bad:5: a number beyond float64",
    "(assert (<= (* X_0 Y_0) 1))": "bad:5: a product of variables; only linear expressions are supported",
    "(declare-const X_0 Real)": "bad:5: X_0 is declared twice",
    "(declare-const X_1 Real)": "bad:5: X_1: the network has 1 inputs, X_0 to X_0",
    "(declare-const Y_7 Real)": "bad:5: Y_7: the network has 2 outputs, Y_0 to Y_1",
    "(declare-const Z Real)": "bad:5: a variable X_0, X_1, ... or Y_0, Y_1, ... is expected, not 'Z'",
    "(declare-const X_01 Real)": "bad:5: a variable X_0, X_1, ... or Y_0, Y_1, ... is expected, not 'X_01'",
    "(declare-const Y_1 Int)": "bad:5: the sort Real is expected, not 'Int'",
    "(set-logic QF_LRA)": "bad:5: (declare-const ...) or (assert ...) is expected, not '(set-logic ...)'",
    "word": "bad:5: (declare-const ...) or (assert ...) is expected, not 'word'",
    "(assert (> X_0 0.5))\n(assert (< X_0 0.5000000000000001))": (
        "bad:6: no number of float64 is between the bounds of X_0"
    ),
    "(assert (<= Y_0 -1e-400))": "bad:5: '-1e-400' is closer to 0 than float64 can be",
    "(assert (<= |Y_0| 1))": "bad:5: the character '|' is not one that VNN-LIB has",
    "(assert (<= Y_0\u00a01))": "bad:5: the character '\\xa0' is not one that VNN-LIB has",
    "\f(assert (<= Y_0 1))": "bad:5: the character '\\x0c' is not one that VNN-LIB has",
    "(" * 300 + ")" * 300: "bad:5: parentheses are nested more than 200 deep",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=BAD.values())
def test_what_is_wrong_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(kd.InputError) as caught:
        parse_vnnlib(HEAD + text, plain(1, 2), "bad")
    assert str(caught.value) == message


CONTRADICTIONS = {
    "(assert (<= X_0 -0.5))": "the lower bound of X_0 (line 4) is above its upper bound (line 5)",
    "(assert (<= 1 0))": "line 5 is never true",
    "(assert (or (>= X_0 2) (> X_0 1)))": "the lower bound of X_0 (line 5) is above its upper bound (line 3)",
    "(assert (> X_0 0.5))\n(assert (< X_0 0.5))": "the lower bound of X_0 (line 5) is above its upper bound (line 6)",
}


@pytest.mark.parametrize(("text", "conflict"), CONTRADICTIONS.items(), ids=CONTRADICTIONS.values())
def test_assertions_that_contradict_each_other_hold_and_say_so(text: str, conflict: str) -> None:
    network = plain(1, 2)
    specification = parse_vnnlib(HEAD + text, network)
    answer = kd.decide(network, specification, "interval")
    assert answer.verdict == "verified"
    assert answer.reason == specification.note == f"no input and output satisfy the assertions: {conflict}"


@pytest.mark.parametrize("end", ["\f", "\v", "\x1c", "\x85", "\u2028", "\u2029"])
def test_only_a_line_break_ends_a_comment(end: str) -> None:
    """A comment that another character ended would become an assertion, and a false claim would hold."""
    network = plain(1, 1)
    text = declarations(1, 1) + unit_box(1) + f"; {end}(assert (<= 1 0))"
    for line_end in ("\n", "\r", "\r\n"):
        (prop,) = parse_vnnlib(f"{text}{line_end}(assert (<= Y_0 0.5))", network).properties
        assert prop.claim.d.tolist() == [-0.5]


def test_inputs_without_bounds_are_named() -> None:
    for bounds, message in (
        ("(assert (<= X_0 1))", "vnnlib: X_0 has no lower bound"),
        ("(assert (<= X_0 1)) (assert (>= X_0 0)) (assert (>= X_1 0))", "vnnlib: X_1 has no upper bound"),
        (unit_box(1), "vnnlib: X_1 has no lower bound"),
    ):
        with pytest.raises(kd.InputError, match=f"^{re.escape(message)}$"):
            parse_vnnlib(declarations(2, 1) + bounds, plain(2, 1))


def test_too_many_alternatives() -> None:
    text = declarations(15, 15) + unit_box(15)
    text += "".join(f"(assert (or (<= Y_{i} 0) (>= Y_{i} 1)))" for i in range(15))
    with pytest.raises(kd.InputError, match=r"^vnnlib: the assertions come to more than 20000 alternatives"):
        parse_vnnlib(text, plain(15, 15))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(kd.InputError, match=r"missing.vnnlib: no such file"):
        kd.load_vnnlib(tmp_path / "missing.vnnlib", plain(1, 1))
    for name, content, message in (
        ("cut.gz", gzip.compress(b"(assert)" * 99)[:-12], "cannot be unpacked"),
        ("noise.gz", b"\x1f\x8b noise", "cannot be unpacked"),
        ("image.vnnlib", b"\xff\xfe\x00", "is not a text file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(kd.InputError, match=f"{name}: {message}"):
            kd.load_vnnlib(tmp_path / name, plain(1, 1))


# ---- the competition's files ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no benchmark folder at {FOLDER.name} beside the project")
@pytest.mark.parametrize(
    ("folder", "inputs", "outputs"), [("acasxu", 5, 5), ("mnistfc", 784, 10), ("oval21", 3072, 10)]
)
def test_published_files_are_read(folder: str, inputs: int, outputs: int) -> None:
    network, files = plain(inputs, outputs), sorted((FOLDER / folder).rglob("*.vnnlib*"))[:8]
    assert files
    for path in files:
        question = kd.load_vnnlib(path, network)
        assert question.network is network
        assert len(question.properties) == (2 if path.name == "prop_6.vnnlib" else 1)
        for case in question.properties:
            assert case.region.shape == (inputs,)
            assert inputs == 5 or case.claim.clause_count == 9
