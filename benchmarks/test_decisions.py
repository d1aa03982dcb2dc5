"""Whole questions: an image proved by joint relaxations, one that is refuted, one that is split into cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import NETS, Digits

import kreludomain as kd

#: Image, radius and what ``complete`` answers.
QUESTIONS = {
    "proved by bounds": (6, 0.05, kd.Verdict.VERIFIED),
    "refuted": (6, 0.3, kd.Verdict.FALSIFIED),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_complete(benchmark: Any, dense: Digits, name: str) -> None:
    image, epsilon, expected = QUESTIONS[name]
    region, claim = dense.region(image, epsilon), dense.claim(image)
    found = benchmark.pedantic(
        kd.certify, (dense.network, region, claim, "complete"), {"timeout_s": 60.0}, rounds=3, warmup_rounds=1
    )
    assert found.verdict == expected


def test_splitting(benchmark: Any) -> None:
    """Two inputs and a margin of a hundredth: bounds alone do not prove it."""
    network = kd.load(NETS / "brusselator_deep.onnx")
    region = kd.ball(torch.zeros(1, *network.input.shape), 0.5)
    low = network(region.sample(20_000, torch.Generator().manual_seed(0))).amin(0)
    claim = kd.claim(torch.eye(len(low)), 0.01 - low)
    found = benchmark.pedantic(
        kd.certify, (network, region, claim, "complete"), {"timeout_s": 60.0}, rounds=3, warmup_rounds=1
    )
    assert found.verdict == kd.Verdict.VERIFIED
