r"""Prepares a store for training: any atmosphere, on the grid of a config.

Started again after it was killed, it goes on. What is wanted is the config's `data`,
how it is made its `prepare`; --config.prepare.KEY=VALUE changes that.

Examples:
  ERA5=gs://weatherbench2/datasets/era5
  python scripts/prepare_data.py --config=configs/ncep_sample.py \
      --source=ncep_r1_20220101_5d_73x144.zarr --output=ncep.zarr
  python scripts/prepare_data.py --config=configs/era5_256.py \
      --source=$ERA5/1959-2023_01_10-wb13-6h-1440x721_with_derived_variables.zarr \
      --output=gs://BUCKET/era5_256.zarr --engine=beam --beam_options='
      --runner=DataflowRunner --project=PROJECT --region=us-central1
      --temp_location=gs://BUCKET/tmp --setup_file=./setup.py'
"""

from absl import flags

from learning import command_line, config_flags

_CONFIG = config_flags.define('config', 'configs/*.py, or the config.json of a run.')
_SOURCES = flags.DEFINE_multi_string(
    'source', None, 'Path, glob pattern or address; repeatable.', required=True
)
_OUTPUT = flags.DEFINE_string('output', None, 'Store; that of the config, or this.')
_ENGINE = flags.DEFINE_enum('engine', 'threads', ['threads', 'beam'], 'Who works.')
_BEAM_OPTIONS = flags.DEFINE_string(
    'beam_options', '', "Of Beam's pipeline and runner."
)
_OVERWRITE = flags.DEFINE_bool(
    'overwrite', False, 'Remove a prepared store of another plan, then begin.'
)


def main() -> None:
    """Prepares the store that the flags describe."""
    # Late, so that --help answers at once.
    from weather.building.build import build_store
    from weather.building.engine import make_engine
    from weather.experiment import Experiment

    setup = Experiment.from_config(_CONFIG.entries, _CONFIG.overrides)
    made = build_store(
        setup,
        _SOURCES.value,
        _OUTPUT.value or '',
        engine=make_engine(_ENGINE.value, _BEAM_OPTIONS.value),
        overwrite=_OVERWRITE.value,
    )
    print(made)


if __name__ == '__main__':
    command_line.execute(main)
