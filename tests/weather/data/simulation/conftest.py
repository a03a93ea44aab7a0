"""One truncation and one compiled day for all tests of the simulation."""

import pytest

from weather.data.simulation import SimulationConfig, simulate
from weather.data.simulation.planet import Planet


@pytest.fixture(scope='session')
def planet():
    return Planet(21)


@pytest.fixture(scope='session')
def store(tmp_path_factory):
    """Ten days after a spin-up that is just long enough for eddies to have grown."""
    path = tmp_path_factory.mktemp('simulation') / 'planet.zarr'
    return simulate(SimulationConfig(num_days=10, spin_up_days=40, seed=1), path)
