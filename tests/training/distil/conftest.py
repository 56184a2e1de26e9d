"""A small VAE and a small teacher, random, for the tests of distillation."""

from __future__ import annotations

import pytest

from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.tests.support.tiny_model import randomise
from longtake.tests.support.training_runs import DIT
from longtake.training.train_dit import Networks, build


@pytest.fixture(scope="module")
def vae() -> TinyVAE:
    network = TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4)))
    randomise(network, 1)
    return network


@pytest.fixture(scope="module")
def networks() -> Networks:
    networks = build(DIT)
    randomise(networks, 2)
    return networks.requires_grad_(False)
