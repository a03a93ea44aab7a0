r"""Looks at every time of a store and lists what is wrong with it.

Missing and damaged chunks, NaN, constant, frozen and implausible fields, jumps, units,
the axes: a table on the screen, and a list beside the store, STORE.faults.json, by
which training leaves out the times that it names. Ends with status 1 on a fault.

A prepared store is compared with the checksums that were taken when it was written;
--quick judges by what was noted then, in seconds, and reads nothing.

Examples:
  python scripts/check_data.py --store=data/era5.zarr
  python scripts/check_data.py --store=gs://BUCKET/era5.zarr \
      --config=configs/era5_64x32.py --start=2015-01-01 --end=2015-12-31
"""

from absl import flags

from learning import command_line, config_flags

_STORE = flags.DEFINE_string('store', None, 'Atmosphere: path or address.')
_CONFIG = config_flags.define(
    'config', 'Whose variables, levels and grid are wanted.', required=False
)
_START = flags.DEFINE_string('start', None, 'First date, included.')
_END = flags.DEFINE_string('end', None, 'Last date, included.')
_QUICK = flags.DEFINE_bool('quick', False, 'Judge by the record of a prepared store.')
_OUTPUT = flags.DEFINE_string('output', None, 'Where the list goes instead.')
_OPTIONS = flags.DEFINE_string('storage_options', None, 'For an address, as JSON.')
flags.register_multi_flags_validator(
    ['store', 'config'],
    lambda values: any(values.values()),
    message='say what to check: --store=STORE, or --config=CONFIG for its store',
)


def main() -> None:
    """Checks, prints and lists."""
    # Late, so that --help answers at once.
    import json
    import sys

    from weather.data.faults import write_faults
    from weather.doctor.check import Scope, check_store
    from weather.doctor.table import to_text
    from weather.experiment import Experiment

    setup = None
    if _CONFIG.is_given:
        setup = Experiment.from_config(_CONFIG.entries, _CONFIG.overrides)
    options = json.loads(_OPTIONS.value) if _OPTIONS.value else None
    if setup is not None and options is None:
        options = setup.data.storage_options
    report = check_store(
        _STORE.value or setup.data.store,
        Scope(setup, _START.value, _END.value, _QUICK.value),
        storage_options=options,
    )
    print(to_text(report))
    place = write_faults(
        report.listed, setup, output=_OUTPUT.value, storage_options=options
    )
    print(f'listed in {place}')
    sys.exit(1 if report.listed.faults else 0)


if __name__ == '__main__':
    command_line.execute(main)
