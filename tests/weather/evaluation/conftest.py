"""Small stores in the schema of WeatherBench 2, filled with noise."""

import types

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sphere_ops.grid import LatLonGrid

GRID = LatLonGrid('equiangular_with_poles', num_lat=19, num_lon=36)
LEVELS = [500, 850]
WINDS = ('u_component_of_wind', 'v_component_of_wind')
VARIABLES = ('geopotential', *WINDS)


def noise(rng, **coords):
    """A dataset of random float32 fields with the leading axes `coords`."""
    upper_air = {**coords, 'level': LEVELS}
    space = {'latitude': GRID.latitudes, 'longitude': GRID.longitudes}

    def field(axes):
        axes = {**axes, **space}
        shape = [len(values) for values in axes.values()]
        return (tuple(axes), rng.normal(size=shape).astype(np.float32))

    return xr.Dataset(
        {name: field(upper_air) for name in VARIABLES}
        | {'2m_temperature': field(coords)},
        coords={**upper_air, **space},
    )


@pytest.fixture
def sources():
    """Forecasts, truth and climatology that fit together: 3 starts, 4 leads."""
    rng = np.random.default_rng(0)
    times = pd.date_range('2020-02-27', periods=16, freq='6h').as_unit('ns')
    leads = pd.to_timedelta([6, 12, 18, 24], unit='h').as_unit('ns')
    return types.SimpleNamespace(
        forecasts=noise(rng, time=times[[0, 2, 7]], prediction_timedelta=leads),
        truth=noise(rng, time=times),
        climatology=noise(
            rng, hour=[0, 6, 12, 18], dayofyear=np.array([57, 58, 59, 60, 61])
        ),
    )
