"""Computes mean, std and tendency std of every channel over the training period.

Reads the store of the config once and writes a small netCDF, statistics.nc, into the
run directory. Training does the same by itself; what either computed is kept and found
again (config.data.preparation), unless --overwrite says to compute it anew.

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
_OVERWRITE = flags.DEFINE_bool(
    'overwrite', False, 'Replace statistics that are there, and compute them anew.'
)
flags.register_multi_flags_validator(
    ['workdir', 'output'],
    lambda values: any(values.values()),
    message='say where to write: --workdir=DIR or --output=PATH',
)


def main() -> None:
    """Computes, prints and writes the statistics."""
    # Late, so that --help answers at once.
    from learning.files import Output
    from weather import experiment, outputs, workdir
    from weather.data import preparation, statistics, store

    setup = experiment.Experiment.from_config(_CONFIG.entries, _CONFIG.overrides)
    data, run = setup.data, workdir.Workdir(_WORKDIR.value or '.')
    path = _OUTPUT.value or run.statistics
    Output(path, outputs.STATISTICS, _OVERWRITE.value, (data.store,)).check()
    atmosphere = store.open_atmosphere(
        data.store,
        levels=data.stored.levels,
        grid=setup.grid,
        storage_options=data.options,
    )
    if not _OUTPUT.value:
        run.claim(setup)
    if _OVERWRITE.value:
        preparation.forget(setup, atmosphere)
    found = preparation.prepare(setup, atmosphere).statistics
    statistics.save_statistics(found, path)
    print(statistics.summary(found))
    first, last = data.train
    print(f'{found.attrs["num_times"]} times, {first} to {last}, written to {path}')


if __name__ == '__main__':
    command_line.execute(main)
