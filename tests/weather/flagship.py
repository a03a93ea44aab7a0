"""The flagship at full size on random data: a training update and a forecast.

Run as a program, it prints one JSON object: times in seconds, peak memory in GiB.
"""

import json
import resource
import time

import jax
import numpy as np

from configs import era5_256
from weather.data.forcings import POSITIONS, clock
from weather.data.normalizer import Normalizer
from weather.experiment import Experiment
from weather.model.forecast_model import ForecastModel
from weather.model.loss import channel_weights
from weather.training.trainer import num_parameters
from weather.training.update import DeviceBatch, init_train_state, make_update

SIX_HOURS = np.timedelta64(6, 'h')
FORECAST_STEPS = 20  # Five days.


def make_model(setup: Experiment) -> ForecastModel:
    num_channels = len(setup.data.channels)
    ones = np.ones(num_channels, np.float32)
    statics = np.zeros((*setup.grid.shape, 2 + len(POSITIONS)), np.float32)
    return ForecastModel.create(setup, Normalizer(0 * ones, ones, ones / 10), statics)


def random_batch(setup: Experiment, num_steps: int) -> DeviceBatch:
    random = np.random.default_rng(0)
    shape = (1, num_steps + 1, 13, *setup.grid.shape)
    fields = {
        name: random.standard_normal(shape, np.float32)
        for name in setup.data.channels.variables
    }
    times = np.datetime64('2020-01-01', 'h') + np.arange(1, num_steps + 1) * SIX_HOURS
    return DeviceBatch(fields, clock(times[None], timestep=SIX_HOURS))


def main() -> None:
    setup = Experiment.from_config(era5_256.get_config())
    started = time.perf_counter()
    model = make_model(setup)
    state = init_train_state(model, setup.training)
    jax.block_until_ready(state)
    report = {
        'parameters': num_parameters(model),
        'initialisation_s': time.perf_counter() - started,
    }

    batch = random_batch(setup, num_steps=1)
    update = make_update(
        setup.training, channel_weights(model.channels, setup.loss)
    ).lower(state, model, batch)
    started = time.perf_counter()
    compiled = update.compile()
    report['update_compilation_s'] = time.perf_counter() - started
    started = time.perf_counter()
    state, metrics = compiled(state, model, batch)
    report['loss'] = float(metrics.loss)
    report['update_s'] = time.perf_counter() - started
    report['updates'] = int(state.update)

    values = ForecastModel.normalize(model, batch.fields)[:, 0]
    phases = batch.clocks[:, 0]
    started = time.perf_counter()
    step = (
        jax.jit(ForecastModel.step).lower(model, state.average, values, phases)
    ).compile()
    report['step_compilation_s'] = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(FORECAST_STEPS):
        values = step(model, state.average, values, phases)
    report['finite'] = bool(np.isfinite(values).all())
    report['shape'] = values.shape
    report['forecast_s'] = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report['peak_gib'] = peak / 2**20
    print(json.dumps(report))


if __name__ == '__main__':
    main()
