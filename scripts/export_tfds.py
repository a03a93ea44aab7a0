r"""Writes a store as ArrayRecord with TensorFlow Datasets metadata, without TensorFlow.

One example per time, in a folder that training reads as config.data.store, and others
with tfds.builder_from_directory(FOLDER).as_data_source('train'). With a config: its
variables, levels, statics and periods, on its grid; without: all that the store holds.

Examples:
  python scripts/export_tfds.py --store=data/era5.zarr --output=data/era5/1.0.0 \
      --name=era5
  python scripts/export_tfds.py --store=runs/demo/planet.zarr \
      --config=configs/demo.py --output=runs/demo/examples
"""

from absl import flags

from learning import command_line, config_flags

_STORE = flags.DEFINE_string('store', None, 'Atmosphere to read.', required=True)
_OUTPUT = flags.DEFINE_string('output', None, 'Folder to write.', required=True)
_CONFIG = config_flags.define(
    'config', 'configs/*.py, or the config.json of a run.', required=False
)
_START = flags.DEFINE_string('start', None, 'First date, included.')
_END = flags.DEFINE_string('end', None, 'Last date, included.')
_NAME = flags.DEFINE_string('name', 'atmosphere', 'Name of the data set.')
_OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Replace examples that are there.')


def main() -> None:
    """Writes the examples."""
    # Late, so that --help answers at once.
    from weather import experiment
    from weather.data import tfds_export

    setup = None
    if _CONFIG.is_given:
        setup = experiment.Experiment.from_config(_CONFIG.entries, _CONFIG.overrides)
    print(
        tfds_export.export_store(
            _STORE.value,
            _OUTPUT.value,
            setup=setup,
            name=_NAME.value,
            start=_START.value,
            end=_END.value,
            overwrite=_OVERWRITE.value,
        )
    )


if __name__ == '__main__':
    command_line.execute(main)
