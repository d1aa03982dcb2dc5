"""The configuration of ``kreludomain certify`` and ``kreludomain compare``: the YAML file's keys."""

from __future__ import annotations

from kreludomain.run.config.fields import ClaimConfig, Data, FilePath, RegionConfig
from kreludomain.run.config.files import RunKeys
from kreludomain.run.config.methods import AttackItem, Methods


class CertifyConfig(RunKeys):
    """A configuration file of ``kreludomain certify`` and ``kreludomain compare``; a row is a sample and a method.

    ``claim``: robustness of each sample's label where it is not given. ``attack``: whether counterexamples are looked
    for, or the options of the search. ``tight``: bounds as good as the method can, also of what is proved already.
    """

    network: FilePath
    data: Data
    region: RegionConfig
    claim: ClaimConfig | None = None
    methods: Methods
    attack: AttackItem = True
    tight: bool = False
