"""The configuration of ``kreludomain certify`` and ``kreludomain compare``: the YAML file's keys."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kreludomain.run.config.fields import ClaimConfig, Data, FilePath, RegionConfig, Text
from kreludomain.run.config.methods import Methods
from kreludomain.run.config.schema import Keys


class Config(Keys):
    """A configuration file of ``kreludomain certify`` and ``kreludomain compare``.

    ``claim``: robustness of each sample's label where it is not given. ``attack``: what is not proved is searched for
    counterexamples. ``tight``: bounds as good as the method can, also of what is proved already. ``timeout_s`` is for
    a sample and method; what has not stopped ``grace_s`` after it is killed. ``memory_mb``: what a sample may take on
    top of an idle worker. ``workers``, ``threads`` of each and ``cluster`` say where it is computed, and by default
    this machine decides.
    """

    network: FilePath
    data: Data
    region: RegionConfig
    claim: ClaimConfig | None = None
    methods: Methods
    timeout_s: float | None = Field(None, gt=0)
    grace_s: float = Field(10.0, ge=0)
    memory_mb: int | None = Field(None, ge=1)
    attack: bool = True
    tight: bool = False
    workers: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    cluster: Literal["ray"] | None = None
    output: Text | None = None
    #: Written by a run for its readers; not read.
    versions: dict[str, str] = Field(default_factory=dict)
