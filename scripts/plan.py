r"""Says what a training needs: memory, data, time, money; refuses what does not fit.

Example:
  python scripts/plan.py --config=configs/era5_256.py --devices=256 --hbm_gib=15.75 \
      --mesh=32x8 --devices_per_process=4 --peak_tflops=197 --price_per_hour=1.2

Nothing is read and no accelerator is used: the program is compiled for as many CPUs.
"""

from absl import flags

from learning import command_line, config_flags

_CONFIG = config_flags.define('config', 'configs/*.py, or the config.json of a run.')
_DEVICES = flags.DEFINE_integer('devices', 1, 'Devices in all.', lower_bound=1)
_PER_PROCESS = flags.DEFINE_integer(
    'devices_per_process', 8, 'Devices of each process.', lower_bound=1
)
_MESH = flags.DEFINE_string(
    'mesh', None, 'DATAxSPACE: parts of a batch, parts of a sample; default: config.'
)
_HBM = flags.DEFINE_float('hbm_gib', None, 'Memory of a device.', lower_bound=0)
_PEAK = flags.DEFINE_float(
    'peak_tflops', None, 'Of a device, as its maker says.', lower_bound=0
)
_UTILISATION = flags.DEFINE_float(
    'utilisation', 0.3, 'Fraction of that peak that is reached.', lower_bound=0.001
)
_RATE = flags.DEFINE_float(
    'rate', None, 'Updates per second that were measured at first.', lower_bound=0
)
_READ = flags.DEFINE_float(
    'read_mb_per_s', None, 'Decoded MB that a process reads.', lower_bound=0
)
_PRICE = flags.DEFINE_float('price_per_hour', None, 'Of a device.', lower_bound=0)


def main() -> None:
    """Plans what the flags describe."""
    # Imported here, so that --help answers at once.
    from weather.experiment import Experiment
    from weather.training import plan, planner

    setup = Experiment.from_config(_CONFIG.entries, _CONFIG.overrides)
    machine = plan.Machine(
        num_devices=_DEVICES.value,
        devices_per_process=_PER_PROCESS.value,
        hbm_gib=_HBM.value,
        peak_tflops=_PEAK.value,
        utilisation=_UTILISATION.value,
        rate=_RATE.value,
        read_mb_per_s=_READ.value,
        price_per_hour=_PRICE.value,
    )
    planner.plan(plan.with_mesh(setup, _MESH.value), machine)


if __name__ == '__main__':
    command_line.execute(main)
