"""An experiment: what a config says, checked once at the door.

`configs/*.py` return an `ml_collections.ConfigDict` with what is their own, and
`Experiment.from_config` turns it into frozen models. The models are the schema and the
one home of defaults. A new key is one line here; the default of a key that is not
marked `MACHINE` never changes, because digests leave defaults out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from learning.schema import (
    MACHINE,
    Config,
    ConfigError,
    Count,
    Group,
    Integer,
    Key,
    Number,
    differences,
)
from learning.settings import Devices
from learning.spelling import did_you_mean
from sphere_ops.grid import LatLonGrid
from weather.entries import (
    Gigabytes,
    Levels,
    Period,
    Statics,
    StepHours,
    Weight,
    WindowDays,
    not_after,
)
from weather.schedule import Training
from weather.variables import (
    VARIABLES,
    WEATHERBENCH_LEVELS,
    ChannelIndex,
    Variable,
    get_variable,
    register,
)

__all__ = ['ConfigError', 'Experiment', 'Training', 'differences']

_UPPER_AIR = (
    'geopotential',
    'specific_humidity',
    'temperature',
    'u_component_of_wind',
    'v_component_of_wind',
    'vertical_velocity',
)


class Definition(Group):
    """A variable that the project's table lacks; see `weather.variables.Variable`."""

    short_name: str
    units: str
    standard_name: str
    plausible: tuple[Number, Number]
    role: Literal['both', 'input', 'output', 'static'] = 'both'
    northward: str | None = None
    vector: str | None = None
    on_levels: bool | None = None
    aliases: tuple[str, ...] = ()
    accumulated: bool = False
    averaged: bool = False


def _definitions(found: dict[str, Definition]) -> dict[str, Definition]:
    """Makes them known, before other keys speak of them."""
    for name, definition in found.items():
        register(Variable(name, **definition.model_dump()))
    return found


class Data(Group):
    """Where the atmosphere is and which part of it is used for what.

    Attributes:
      store: path or `gs://` address of a Zarr store in WeatherBench 2 schema. Not
        science: a store that was moved is the same data.
      storage_options: options for fsspec, such as `{'token': 'anon'}`.
      disk_cache: folder that keeps what was read of a store at an address; empty means
        that nothing is kept. Several runs may share it.
      disk_cache_gb: disk space that it may take.
      definitions: variables that the project's table lacks, by name.
      variables: levels in hPa of every variable that is read or forecast; none for a
        surface variable. Channels are in the order of `weather.variables.VARIABLES`.
      roles: what the model does with a variable, where it is not what the table says:
        `'both'` reads and forecasts it, `'input'` only reads it, from the store at the
        valid time of each step, `'output'` only forecasts it.
      statics: static fields that the model reads from the store.
      train, validation, test: first and last date of each period, both included.
      timestep_hours: the model's step, a multiple of the store's; 0 is the store's own.
      cache_gb: memory for decoded fields that may be read again.
      prefetch_gb: memory for batches that wait for the device or are being read; one
        is read ahead even where it is larger. `Loader.most_bytes` adds it all up.
      num_threads: threads that read.
      preparation: folder for what is computed from the data once and used by every
        run; empty means the user's cache folder.
    """

    store: Annotated[
        str, Field(min_length=1), AfterValidator(os.path.expanduser), MACHINE
    ]
    storage_options: Annotated[dict[Key, JsonValue], MACHINE] = {}
    disk_cache: Annotated[str, AfterValidator(os.path.expanduser), MACHINE] = ''
    disk_cache_gb: Annotated[Gigabytes, MACHINE] = 100.0
    # Before `variables`: fields are checked in this order, and those need these.
    definitions: Annotated[dict[str, Definition], AfterValidator(_definitions)] = {}
    variables: Levels = dict.fromkeys(_UPPER_AIR, WEATHERBENCH_LEVELS)
    roles: dict[str, Literal['both', 'input', 'output']] = {}
    statics: Statics = (
        'geopotential_at_surface',
        'land_sea_mask',
    )
    train: Period
    validation: Period
    test: Period
    timestep_hours: Annotated[Number, Field(ge=0)] = 0.0
    cache_gb: Annotated[Gigabytes, MACHINE] = 2.0
    prefetch_gb: Annotated[Gigabytes, MACHINE] = 0.5
    num_threads: Annotated[Count, MACHINE] = 2
    preparation: Annotated[str, AfterValidator(os.path.expanduser), MACHINE] = ''

    @property
    def options(self) -> dict[str, Any]:
        """What a store is opened with: `storage_options`, and the cache if any."""
        if not self.disk_cache:
            return dict(self.storage_options)
        cache = {'disk_cache': self.disk_cache, 'disk_cache_gb': self.disk_cache_gb}
        return {**self.storage_options, **cache}

    @property
    def channels(self) -> ChannelIndex:
        """The channels of a state: what is forecast."""
        levels = self._levels('both', 'output')
        return ChannelIndex(levels, outputs=self._levels('output'))

    @property
    def inputs(self) -> ChannelIndex:
        """The fields of the store that a step reads and does not forecast."""
        return ChannelIndex(self._levels('input'))

    @property
    def stored(self) -> ChannelIndex:
        """All fields that training reads from the store, statics apart."""
        return ChannelIndex(self._levels('both', 'output', 'input'))

    def role(self, name: str) -> str:
        """What the model does with one of the variables."""
        return self.roles.get(name, get_variable(name).role)

    def _levels(self, *roles: str) -> dict[str, tuple[float, ...]]:
        # The table's order, whatever the config's: checkpoints count channels.
        rank = {name: i for i, name in enumerate(VARIABLES)}
        names = sorted(self.variables, key=lambda name: rank[name])
        return {
            name: self.variables[name] for name in names if self.role(name) in roles
        }

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Which of the periods for validation and test overlap the training period."""
        (first, last), others = self.train, ('validation', 'test')
        return tuple(
            name
            for name in others
            if not_after(getattr(self, name)[0], last)
            and not_after(first, getattr(self, name)[1])
        )


class Model(Group):
    """Kind and size of the network.

    Attributes:
      network: name of the network.
      latent: grid of the residual blocks.
      scalar_channels: spin-0 channels of the residual blocks.
      vector_channels: spin-1 channels of the residual blocks.
      num_blocks: number of residual blocks.
      num_knots: degrees at which a convolution's kernel is free; linear in between.
      skips: `'input'` lets the last convolution see the input's coefficients up to the
        state grid's largest degree beside the features; `'none'` is the paper's model,
        whose tendency ends at the latent grid's largest degree.
      precision: of the numbers that products over channels multiply, forward and
        backward: `'float32'` or `'bfloat16'`. Sums, transforms, norms and parameters
        are float32 in any case. On GPUs and TPUs `'float32'` is what JAX makes of it
        (TF32, bfloat16), unless JAX_DEFAULT_MATMUL_PRECISION=highest.
      remat: what the backward pass computes anew instead of keeping: `'none'`, every
        `'step'` of a rollout, or every `'block'` of a step too; see
        `benchmarks/RESULTS.md` for memory and time.
    """

    # Of a module: see `weather.model.networks`.
    network: Annotated[str, Field(pattern=r'^[a-z][a-z0-9_]*$')] = 'spherical_cnn'
    latent: LatLonGrid
    scalar_channels: Count = 128
    vector_channels: Count = 128
    num_blocks: Annotated[Integer, Field(ge=0)] = 3
    num_knots: Count = 16
    skips: Literal['input', 'none'] = 'input'
    precision: Literal['float32', 'bfloat16'] = 'float32'
    # Of the machine: what is computed anew is what would have been kept.
    remat: Annotated[Literal['none', 'step', 'block'], MACHINE] = 'step'


class Loss(Group):
    """Weights of the training loss; both default to one where nothing is said.

    Attributes:
      variable_weights: weight of each variable.
      level_weights: weight of each level, keys in hPa as strings.
    """

    variable_weights: dict[str, Weight] = {}
    level_weights: dict[Key, Weight] = {}


class Forecast(Group):
    """Forecasts that are made and scored when nothing else is asked for.

    Attributes:
      init_every_hours: hours between two starts in the test period.
      lead_hours: longest lead time.
      batch_size: starts that are run together.
    """

    init_every_hours: Count = 12
    lead_hours: Count = 120
    batch_size: Count = 4


class Climatology(Group):
    """How the climatology is computed from the training period.

    Attributes:
      window_days: width of the triangular window around a day of the year;
        WeatherBench 2 uses 61.
    """

    window_days: WindowDays = 61


class Prepare(Group):
    """How `scripts/prepare_data.py` makes a store; no training depends on it.

    Attributes:
      regridding: `'conservative'` averages over cells, as WeatherBench 2 does;
        `'spectral'` keeps the harmonics that the grid resolves, winds as one vector
        field. Nothing is done to a source that is on `config.grid` already.
      timestep_hours: hours between times, counted from 00 UTC; 0 is the sources' step.
      below_ground: of values that are missing below the ground: `'refuse'` says so
        before anything is written, `'fill'` continues each column downward.
      dtype: `'float32'`; `'bfloat16'` rounds to its 8 bits of precision, stored as
        float32 that compresses well; `'int16'` packs. A variable that would lose more
        than 1 % of the standard deviation of a level is stored in a better way: see
        `weather.building.packing`.
      compression: of chunks: `'none'`, `'lz4'` or `'zstd'`.
      shard_times: times in one file, each readable by itself; 0: a file for each time.
      climatology: whether the climatology of the training period is written too.
      num_threads: blocks that are worked on at a time.
      max_gb: memory for fields, all threads together.
      source_options: options for fsspec for the sources, such as `{'token': 'anon'}`;
        those for the store are `data.storage_options`.
    """

    regridding: Literal['conservative', 'spectral'] = 'conservative'
    timestep_hours: StepHours = 0
    below_ground: Literal['refuse', 'fill'] = 'refuse'
    dtype: Literal['float32', 'bfloat16', 'int16'] = 'float32'
    compression: Literal['none', 'lz4', 'zstd'] = 'lz4'
    shard_times: Annotated[Integer, Field(ge=0)] = 0
    climatology: Literal['yes', 'no'] = 'yes'
    num_threads: Count = 2
    max_gb: Annotated[Number, Field(gt=0)] = 2.0
    source_options: dict[Key, JsonValue] = {}


def _to_format_2(entries: dict[str, Any]) -> dict[str, Any]:
    """Format 1 is that of version 0.1, which wrote no number.

    It had every key but `data.num_threads`, `data.preparation`, `model.network` and
    `training.beta2`, `ema_ramp`, `max_loss_ratio`, `keep_best`: their defaults are what
    that version did.
    """
    return entries


class Experiment(Config):
    """Everything that a run depends on but the data itself.

    Attributes:
      init_from: run directory whose weights this run begins with; empty for random
        ones. Only the first start reads it.
    """

    UPGRADES: ClassVar = (_to_format_2,)

    init_from: Annotated[str, AfterValidator(os.path.expanduser)] = ''
    data: Data
    grid: LatLonGrid
    model: Model
    loss: Loss = Loss()
    training: Training
    # Of the machine: the numbers are the same to round-off.
    devices: Annotated[Devices, MACHINE] = Devices()
    forecast: Annotated[Forecast, MACHINE] = Forecast()  # Of no training.
    climatology: Climatology = Climatology()
    prepare: Annotated[Prepare, MACHINE] = Prepare()

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], overrides: Mapping[str, str] | None = None
    ) -> Experiment:
        """As `Config.from_config`; of a run, also its store is found again.

        A relative store that is not seen from the present folder is taken relative to
        the folder in which the run was made.
        """
        setup = super().from_config(config, overrides)
        base, store = config.get(cls.RECORD, {}).get('base'), setup.data.store
        # Where it is seen from here, here is meant.
        if base is None or '://' in store or os.path.exists(store):
            return setup
        there = os.path.join(base, store)  # `store` itself where it is absolute.
        return (
            setup.with_changes({'data.store': there})
            if os.path.exists(there)
            else setup
        )

    @model_validator(mode='after')
    def _check_names(self) -> Experiment:
        """Checks the entries that refer to variables and levels by name."""
        data, loss = self.data, self.loss
        for name in data.roles:
            if name not in data.variables:
                raise ValueError(
                    f'config.data.roles has {name!r}, which data.variables lacks'
                    f'{did_you_mean(name, data.variables)}'
                )
        for name in data.variables:
            if data.role(name) == 'static':
                raise ValueError(
                    f'config.data.variables has {name!r}, which never changes: it '
                    'belongs to data.statics'
                )
        channels = data.channels
        if not len(channels.prognostic):
            raise ValueError(
                'config.data.variables must hold a variable that is read and forecast, '
                f'got {", ".join(data.variables)} with other roles'
            )
        for name in loss.variable_weights:
            if name not in channels.variables:
                raise ValueError(
                    f'config.loss.variable_weights has {name!r}, which data.variables '
                    f'lacks{did_you_mean(name, channels.variables)}'
                )
        # As JSON spells them, whose keys are text.
        levels = {str(level) for of_one in channels.levels.values() for level in of_one}
        for level in loss.level_weights:
            if level not in levels:
                raise ValueError(
                    f'config.loss.level_weights has level {level!r}, which no variable '
                    f'has; levels are {", ".join(sorted(levels, key=float))}'
                )
        return self
