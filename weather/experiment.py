"""An experiment: what a config file says, checked once at the door.

`configs/*.py` return a locked `ml_collections.ConfigDict`; `Experiment.from_config`
turns it into frozen dataclasses. The dataclasses are the schema: every key must be
there, and a key that they do not know is an error that names the nearest one they do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from typing import Any

from sphere_ops.grid import LatLonGrid
from weather.variables import (
    STORED_STATICS,
    VARIABLES,
    ChannelIndex,
    did_you_mean,
)


class ConfigError(ValueError):
    """A config whose keys or values are not those of the schema."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the atmosphere is and which part of it is used for what.

    Attributes:
      store: path or `gs://` address of a Zarr store in WeatherBench 2 schema.
      storage_options: options for fsspec, such as `{'token': 'anon'}`.
      variables: levels in hPa of every variable of the state; none for a surface
        variable. The order of channels is that of `weather.variables.VARIABLES`.
      statics: static fields that the model reads from the store.
      train, validation, test: first and last date of each period, both included.
      cache_gb: memory for decoded fields that may be read again.
      prefetch_gb: memory for batches that wait for the device.
      num_threads: batches that are read at a time.
      preparation: folder for what is computed from the data once and used by every
        run; empty means the user's cache folder.
    """

    store: str
    storage_options: Mapping[str, Any]
    variables: Mapping[str, tuple[int, ...]]
    statics: tuple[str, ...]
    train: tuple[str, str]
    validation: tuple[str, str]
    test: tuple[str, str]
    cache_gb: float
    prefetch_gb: float
    num_threads: int = 2
    preparation: str = ''

    @property
    def channels(self) -> ChannelIndex:
        """The channels of a state, in the order of `VARIABLES`."""
        return ChannelIndex(
            dict(sorted(self.variables.items(), key=lambda item: _rank(item[0])))
        )

    @property
    def inputs(self) -> ChannelIndex:
        """The fields of the store that a step reads and does not forecast."""
        return ChannelIndex({})

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Which of the periods for validation and test overlap the training period."""
        (first, last), others = self.train, ('validation', 'test')
        return tuple(
            name
            for name in others
            if getattr(self, name)[0] <= last and first <= getattr(self, name)[1]
        )


@dataclasses.dataclass(frozen=True)
class Model:
    """Size of the spherical CNN.

    Attributes:
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
      remat: what the backward pass computes anew instead of keeping: `'none'` or every
        `'step'` of a rollout; see `benchmarks/RESULTS.md` for memory and time.
      network: name of the network.
    """

    latent: LatLonGrid
    scalar_channels: int
    vector_channels: int
    num_blocks: int
    num_knots: int
    skips: str
    precision: str
    remat: str
    network: str = 'spherical_cnn'

    def __post_init__(self) -> None:
        _choice('model.skips', self.skips, ('input', 'none'))
        _choice('model.precision', self.precision, ('float32', 'bfloat16'))
        _choice('model.remat', self.remat, ('none', 'step'))
        _positive('model', self, 'scalar_channels', 'vector_channels', 'num_knots')


@dataclasses.dataclass(frozen=True)
class Loss:
    """Weights of the training loss; both default to one where nothing is said.

    Attributes:
      variable_weights: weight of each variable.
      level_weights: weight of each level, keys in hPa as strings.
    """

    variable_weights: Mapping[str, float]
    level_weights: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Training:
    """The optimisation.

    Attributes:
      seed: of the initial parameters and of the order of the batches.
      num_updates: optimiser updates in all.
      batch_size: windows per update, over all devices.
      curriculum: pairs (first update, rollout steps), the first at update 0.
      learning_rate: peak, after the warm-up; decays to zero by a cosine.
      warmup_updates: updates of linear warm-up.
      weight_decay: of AdamW.
      clip_norm: largest global norm of the gradient.
      ema_decay: of the exponential moving average of weights and batch statistics.
      log_every, validate_every, checkpoint_every: updates between two of each.
      validation_batches: batches in a validation.
      keep_checkpoints: newest checkpoints that are kept.
      beta2: decay of AdamW's second moments.
      ema_ramp: the average's decay is at most (1 + update) / (ema_ramp + update).
      max_loss_ratio: a loss that is this many times its best is a training that failed.
      keep_best: best checkpoints that are kept beside the newest.
    """

    seed: int
    num_updates: int
    batch_size: int
    curriculum: tuple[tuple[int, int], ...]
    learning_rate: float
    warmup_updates: int
    weight_decay: float
    clip_norm: float
    ema_decay: float
    log_every: int
    validate_every: int
    validation_batches: int
    checkpoint_every: int
    keep_checkpoints: int
    beta2: float = 0.98
    ema_ramp: float = 10.0
    max_loss_ratio: float = 100.0
    keep_best: int = 1

    def __post_init__(self) -> None:
        _positive(
            'training',
            self,
            'num_updates',
            'batch_size',
            'log_every',
            'validate_every',
            'validation_batches',
            'checkpoint_every',
            'keep_checkpoints',
            'learning_rate',
            'clip_norm',
        )
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(
                f'training.ema_decay must be from 0 to below 1, got {self.ema_decay}'
            )
        first_updates = [first for first, _ in self.curriculum]
        if not first_updates or first_updates[0] != 0:
            raise ConfigError(
                'training.curriculum must be pairs (first update, rollout steps), the '
                f'first at update 0, got {self.curriculum}'
            )
        if sorted(set(first_updates)) != first_updates:
            raise ConfigError(
                f'training.curriculum must ascend in updates, got {self.curriculum}'
            )
        if min(steps for _, steps in self.curriculum) < 1:
            raise ConfigError(
                f'training.curriculum needs steps >= 1, got {self.curriculum}'
            )

    def num_steps(self, update: int) -> int:
        """Rollout steps of the given update: derived, so that it survives a resume."""
        return [steps for first, steps in self.curriculum if first <= update][-1]

    @property
    def max_steps(self) -> int:
        """The longest rollout that some update of this training has."""
        return max(
            steps for first, steps in self.curriculum if first < self.num_updates
        )


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Forecasts that are made and scored when nothing else is asked for.

    Attributes:
      init_every_hours: hours between two starts in the test period.
      lead_hours: longest lead time.
      batch_size: starts that are run together.
    """

    init_every_hours: int
    lead_hours: int
    batch_size: int

    def __post_init__(self) -> None:
        _positive('forecast', self, 'init_every_hours', 'lead_hours', 'batch_size')


@dataclasses.dataclass(frozen=True)
class Climatology:
    """How the climatology is computed from the training period.

    Attributes:
      window_days: width of the triangular window around a day of the year;
        WeatherBench 2 uses 61.
    """

    window_days: int

    def __post_init__(self) -> None:
        if self.window_days % 2 == 0 or not 1 <= self.window_days <= 365:
            raise ConfigError(
                'climatology.window_days must be odd and from 1 to 365, got '
                f'{self.window_days}'
            )


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a run depends on but the data itself."""

    data: Data
    grid: LatLonGrid
    model: Model
    loss: Loss
    training: Training
    forecast: Forecast
    climatology: Climatology

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Experiment:
        """Builds the experiment from a `ConfigDict` or a dictionary read from JSON.

        Raises:
          ConfigError: an unknown, missing or impossible entry; says which and why.
        """
        as_dict = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
        experiment = _build(cls, as_dict, where='config')
        _check_names(experiment)
        return experiment

    def to_dict(self) -> dict[str, Any]:
        """The experiment as JSON types, readable by `from_config`."""
        return json.loads(json.dumps(_plain(self)))

    @property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(
    expected: Mapping[str, Any], found: Mapping[str, Any], prefix: str = ''
) -> list[str]:
    """Lists the keys in which two configs differ, as `key: expected -> found`."""
    lines = []
    for key in sorted(set(expected) | set(found)):
        one, other = expected.get(key, '(absent)'), found.get(key, '(absent)')
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            lines += differences(one, other, f'{prefix}{key}.')
        elif one != other:
            lines.append(f'{prefix}{key}: {one} -> {other}')
    return lines


def _build(cls: Any, entries: Mapping[str, Any], where: str) -> Any:
    """Constructs a dataclass from a dictionary whose keys must be its fields."""
    if not isinstance(entries, Mapping):
        raise ConfigError(f'{where} must be a group of keys, got {entries!r}')
    types = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    for key in entries:
        if key not in names:
            raise ConfigError(
                f'unknown key {where}.{key}{did_you_mean(key, names)}; '
                f'{where} has {", ".join(names)}'
            )
    required = [
        field.name
        for field in dataclasses.fields(cls)
        if field.init and field.default is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in entries]
    if missing:
        raise ConfigError(f'{where} lacks {", ".join(missing)}')
    values = {
        name: _convert(types[name], entries[name], f'{where}.{name}')
        for name in names
        if name in entries
    }
    return cls(**values)


def _convert(kind: Any, value: Any, where: str) -> Any:
    """Brings a value read from Python or JSON to the type that a field declares."""
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f'{where} must be a sequence, got {value!r}')
        kinds = typing.get_args(kind)
        repeated = len(kinds) == 2 and kinds[1] is Ellipsis
        if not repeated and len(kinds) != len(value):
            raise ConfigError(f'{where} must have {len(kinds)} entries, got {value!r}')
        each = [kinds[0]] * len(value) if repeated else kinds
        return tuple(
            _convert(k, v, f'{where}[{i}]')
            for i, (k, v) in enumerate(zip(each, value, strict=True))
        )
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f'{where} must be a group of keys, got {value!r}')
        inner = typing.get_args(kind)[1]
        return {str(k): _convert(inner, v, f'{where}.{k}') for k, v in value.items()}
    return _convert_scalar(kind, value, where)


def _convert_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is Any or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    raise ConfigError(f'{where} must be of type {kind.__name__}, got {value!r}')


def _plain(value: Any) -> Any:
    """Dataclasses, mappings and tuples as JSON types; only constructor fields."""
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return {name: _plain(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _check_names(experiment: Experiment) -> None:
    """Checks the entries that refer to variables and levels by name."""
    data, loss = experiment.data, experiment.loss
    channels = data.channels  # Raises for an unknown variable.
    for name in loss.variable_weights:
        if name not in channels.variables:
            raise ConfigError(
                f'loss.variable_weights has {name!r}, which data.variables lacks'
                f'{did_you_mean(name, channels.variables)}'
            )
    levels = {str(level) for of_one in channels.levels.values() for level in of_one}
    for level in loss.level_weights:
        if level not in levels:
            raise ConfigError(
                f'loss.level_weights has level {level!r}, which no variable has; '
                f'levels are {", ".join(sorted(levels, key=int))}'
            )
    for name in data.statics:
        if name not in STORED_STATICS:
            raise ConfigError(
                f'data.statics has unknown field {name!r}'
                f'{did_you_mean(name, STORED_STATICS)}; it may have '
                f'{", ".join(STORED_STATICS)}'
            )


def _rank(name: str) -> int:
    names = list(VARIABLES)
    return names.index(name) if name in names else len(names)


def _choice(where: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(
            f'{where} must be one of {", ".join(choices)}, got {value!r}'
            f'{did_you_mean(value, choices)}'
        )


def _positive(where: str, group: Any, *names: str) -> None:
    for name in names:
        if getattr(group, name) <= 0:
            raise ConfigError(
                f'{where}.{name} must be positive, got {getattr(group, name)}'
            )
