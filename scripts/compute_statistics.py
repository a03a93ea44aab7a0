"""Computes mean, std and tendency std of every channel over the training period.

Reads the store of the config once and writes a small netCDF, statistics.nc, into the
working directory, where training looks for it.

Example:
  python scripts/compute_statistics.py --config=configs/demo.py --workdir=runs/demo
"""

from absl import flags

from learning import command_line, config_flags

_CONFIG = config_flags.define('config', 'configs/*.py, or the config.json of a run.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the run.')
_OUTPUT = flags.DEFINE_string(
    'output', None, 'Path of the netCDF; WORKDIR/statistics.nc where not given.'
)
flags.register_multi_flags_validator(
    ['workdir', 'output'],
    lambda values: any(values.values()),
    message='say where to write: --workdir=DIR or --output=PATH',
)


def main() -> None:
    """Computes, prints and writes the statistics."""
    # Late, so that --help answers at once.
    from weather import experiment, workdir
    from weather.data import statistics, store

    setup = experiment.Experiment.from_config(_CONFIG.entries, _CONFIG.overrides)
    data = setup.data
    dataset = store.open_store(
        data.store,
        levels=data.channels.levels,
        grid=setup.grid,
        storage_options=data.storage_options,
    )
    first, last = data.train
    found = statistics.compute_statistics(
        dataset, data.channels, start=first, end=last, source=data.store
    )
    path = _OUTPUT.value
    if path is None:
        run = workdir.Workdir(_WORKDIR.value)
        run.claim(setup)
        path = run.statistics
    statistics.save_statistics(found, path)
    print(statistics.summary(found))
    print(f'{found.attrs["num_times"]} times, {first} to {last}, written to {path}')


if __name__ == '__main__':
    command_line.execute(main)
