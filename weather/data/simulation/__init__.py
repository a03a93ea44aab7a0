"""The embedded default atmosphere: an idealised planet as a WeatherBench 2 store.

`simulate(SimulationConfig(num_days=730), 'planet.zarr')` runs an idealised planet
(primitive equations, Held-Suarez forcing, mountains, moisture), discards the spin-up
and writes the six variables on the 13 WeatherBench levels, six-hourly, with orography
and land mask. It is a perpetual equinox: the dates in the store are labels, without
seasons or a daily cycle behind them. The same configuration gives the same bytes on the
same machine and software.
"""

from weather.data.simulation.planet_store import SimulationConfig, simulate

__all__ = ['SimulationConfig', 'simulate']
