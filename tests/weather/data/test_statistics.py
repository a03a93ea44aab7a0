"""Streamed statistics against closed forms, the two-pass formula and damaged data."""

import collections
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import xarray
import zarr

from sphere_ops.grid import LatLonGrid
from weather.data import statistics
from weather.variables import ChannelIndex

# float64 sums of a few thousand terms.
ROUND_OFF = dict(rtol=1e-12)
# The fields are stored in float32, the reference is not.
FLOAT32 = dict(rtol=1e-6)
# sin(latitude) squared by area weights: second order in the row spacing of 5 degrees.
QUADRATURE = dict(rtol=3e-3)

GRID = LatLonGrid('equiangular_with_poles', num_lat=37, num_lon=24)
CHANNELS = ChannelIndex(
    {
        'temperature': (850, 500),
        'u_component_of_wind': (500,),
        'v_component_of_wind': (500,),
        '2m_temperature': (),
    }
)
STATISTICS = ('mean', 'std', 'tendency_std')


def atmosphere(num_times=12, seed=0, grid=GRID, dtype=np.float32):
    """Noise with a memory of a few steps on a large mean: every channel differs."""
    rng = np.random.default_rng(seed)
    levels = [500, 850]

    def field(mean, *axes):
        shape = (num_times, *axes, *grid.shape)
        return (mean + np.cumsum(rng.normal(size=shape), axis=0)).astype(dtype)

    upper_air = ('time', 'level', 'latitude', 'longitude')
    return xarray.Dataset(
        {
            'temperature': (upper_air, field(270.0, 2)),
            'u_component_of_wind': (upper_air, field(8.0, 2)),
            'v_component_of_wind': (upper_air, field(0.0, 2)),
            '2m_temperature': (('time', 'latitude', 'longitude'), field(288.0)),
        },
        coords={
            'time': np.datetime64('2020-01-01', 'ns')
            + np.arange(num_times) * np.timedelta64(6, 'h'),
            'level': levels,
            'latitude': grid.latitudes,
            'longitude': grid.longitudes,
        },
    )


def travelling_wave(*, amplitude, phase_per_step, gradient, num_times=10):
    """mean + gradient sin(latitude) + amplitude cos(longitude - phase)."""
    dataset = atmosphere(num_times, dtype=np.float64)
    phase = phase_per_step * np.arange(num_times)[:, None, None, None]
    wave = amplitude * np.cos(np.radians(GRID.longitudes) - phase)
    tilt = gradient * np.sin(np.radians(GRID.latitudes))[:, None]
    dataset['temperature'] = (
        dataset.temperature.dims,
        np.repeat(260 + wave + tilt, 2, 1),
    )
    return dataset


def two_pass(values, follows):
    """Mean, std and tendency std of `[time, lat, lon]` by their definitions."""
    values = values.astype(np.float64)
    tendency = (values[1:] - values[:-1])[follows]
    weights = np.broadcast_to(GRID.area_weights[:, None], GRID.shape)

    def moments(x):
        mean = np.mean(x * weights)
        return mean, np.sqrt(np.mean((x - mean) ** 2 * weights))

    return *moments(values), moments(tendency)[1]


def at(result, variable, level):
    index = statistics.Channel(variable, level)
    channels = statistics._channels_of(result)
    return result.isel(channel=channels.index(index))


def assert_same(one, other, **tolerance):
    for name in STATISTICS:
        np.testing.assert_allclose(one[name], other[name], **tolerance)


def test_travelling_wave_has_the_statistics_of_its_closed_form():
    amplitude, phase, gradient = 5.0, 0.4, 30.0
    result = statistics.compute_statistics(
        travelling_wave(amplitude=amplitude, phase_per_step=phase, gradient=gradient),
        CHANNELS,
    )
    wave = at(result, 'temperature', 850)
    # A wave has mean square one half along a circle; sin^2 has 1/3 over the sphere.
    std = np.sqrt(amplitude**2 / 2 + gradient**2 / 3)
    tendency = 2 * amplitude * np.sin(phase / 2) / np.sqrt(2)
    np.testing.assert_allclose(wave['mean'], 260, **ROUND_OFF)
    np.testing.assert_allclose(wave['std'], std, **QUADRATURE)
    np.testing.assert_allclose(wave['tendency_std'], tendency, **ROUND_OFF)


@pytest.mark.parametrize('channel', CHANNELS, ids=str)
def test_streamed_statistics_equal_the_two_pass_formula(channel):
    dataset = atmosphere()
    result = statistics.compute_statistics(dataset, CHANNELS, max_bytes=1)
    values = dataset[channel.variable]
    values = values if channel.level is None else values.sel(level=channel.level)
    expected = two_pass(values.values, np.ones(11, bool))
    found = [at(result, *channel)[name] for name in STATISTICS]
    np.testing.assert_allclose(found, expected, **ROUND_OFF)


def test_small_spread_on_a_large_mean_survives():
    # A difference of sums of squares would lose all but four digits: 1e12 / 1e16.
    dataset = atmosphere(dtype=np.float64)
    shifted = statistics.compute_statistics(dataset + 1e6, CHANNELS, max_bytes=1)
    plain = statistics.compute_statistics(dataset, CHANNELS)
    np.testing.assert_allclose(shifted['std'], plain['std'], rtol=1e-9)


@pytest.mark.parametrize('times_per_block', [1, 2, 5, 100])
def test_result_does_not_depend_on_the_blocks(times_per_block):
    dataset = atmosphere()
    slab = 8 * 2 * GRID.num_lat * GRID.num_lon
    whole = statistics.compute_statistics(dataset, CHANNELS)
    blocks = statistics.compute_statistics(
        dataset, CHANNELS, max_bytes=times_per_block * slab
    )
    assert_same(blocks, whole, **ROUND_OFF)


def test_pairs_across_a_gap_are_skipped():
    dataset = atmosphere().isel(time=[0, 1, 2, 6, 7, 11])
    result = statistics.compute_statistics(dataset, CHANNELS, max_bytes=1)
    assert (result['num_pairs'] == 3).all()
    values = dataset['2m_temperature'].values
    expected = two_pass(values, np.array([True, True, False, True, False]))
    found = [at(result, '2m_temperature', None)[name] for name in STATISTICS]
    np.testing.assert_allclose(found, expected, **ROUND_OFF)


def test_longer_model_step_takes_its_own_pairs():
    dataset = atmosphere().isel(time=[0, 1, 3, 4, 6])
    result = statistics.compute_statistics(
        dataset, CHANNELS, timestep=np.timedelta64(12, 'h')
    )
    assert (result['num_pairs'] == 2).all()
    assert result.attrs['timestep_hours'] == 12


@pytest.mark.parametrize('times_per_block', [1, 3, 100])
@pytest.mark.parametrize('keep', [range(12), [0, 1, 2, 4, 5, 6, 7, 9, 10, 11]])
def test_a_step_of_several_times_of_the_store_takes_every_pair(keep, times_per_block):
    dataset = atmosphere().isel(time=list(keep))
    slab = 8 * 2 * GRID.num_lat * GRID.num_lon
    result = statistics.compute_statistics(
        dataset,
        CHANNELS,
        timestep=np.timedelta64(18, 'h'),
        max_bytes=times_per_block * slab,
    )
    place = {time: i for i, time in enumerate(keep)}
    pairs = [(place[t - 3], i) for t, i in place.items() if t - 3 in place]
    values = dataset['2m_temperature'].values.astype(np.float64)
    change = np.array([values[later] - values[earlier] for earlier, later in pairs])
    weights = GRID.area_weights[:, None] / np.prod(GRID.shape)
    mean = np.sum(change * weights) / len(pairs)
    std = np.sqrt(np.sum((change - mean) ** 2 * weights) / len(pairs))
    found = at(result, '2m_temperature', None)
    assert found['num_pairs'] == len(pairs)
    np.testing.assert_allclose(found['tendency_std'], std, **ROUND_OFF)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_times_that_are_not_finite_are_left_out_of_their_channel_and_counted(bad):
    dataset = atmosphere()
    clean = statistics.compute_statistics(dataset, CHANNELS)
    dataset['temperature'][5, 0, 3, 4] = bad  # 500 hPa
    result = statistics.compute_statistics(dataset, CHANNELS, max_bytes=1)
    hole, sound = at(result, 'temperature', 500), at(result, 'temperature', 850)
    assert (hole['num_times'], hole['num_pairs']) == (11, 9)
    assert (sound['num_times'], sound['num_pairs']) == (12, 11)
    assert_same(sound, at(clean, 'temperature', 850), **ROUND_OFF)
    values = np.delete(dataset['temperature'].values[:, 0], 5, axis=0)
    follows = np.arange(10) != 4
    expected = two_pass(values, follows)
    np.testing.assert_allclose(
        [hole[name] for name in STATISTICS], expected, **ROUND_OFF
    )


@pytest.mark.parametrize('zarr_format', [2, 3])
def test_times_that_were_never_written_count_for_nothing(tmp_path, zarr_format):
    # A job was killed, and the fill value is zarr's own: what is not there reads as 0.
    dataset = atmosphere(24)
    path = tmp_path / 'killed.zarr'
    dataset.drop_vars(list(dataset.data_vars)).to_zarr(
        path, zarr_format=zarr_format, consolidated=False
    )
    group = zarr.open_group(path, mode='r+')
    for name, field in dataset.items():
        named = {'dimension_names': field.dims}
        if zarr_format == 2:
            named = {'attributes': {'_ARRAY_DIMENSIONS': list(field.dims)}}
        chunks = (1, *field.shape[1:])
        array = group.create_array(
            name, shape=field.shape, chunks=chunks, dtype='f4', **named
        )
        array[:15] = field.values[:15]
        array[19:] = field.values[19:]
    assert group['temperature'].fill_value == 0
    store = pytest.importorskip('weather.data.store')
    found = statistics.scan(store.open_store(path, levels=CHANNELS.levels), CHANNELS)
    gone = (dataset.time >= dataset.time[15]) & (dataset.time < dataset.time[19])
    right = statistics.compute_statistics(dataset.where(~gone), CHANNELS)
    assert_same(found.statistics, right, rtol=1e-10)
    assert (found.statistics['num_times'] == 20).all()
    assert found.invalid_times.tolist() == dataset.time.values[15:19].tolist()


def test_dataset_in_memory_is_left_as_it_was():
    dataset = atmosphere(dtype=np.float64)
    statistics.compute_statistics(dataset, CHANNELS)
    xarray.testing.assert_identical(dataset, atmosphere(dtype=np.float64))


def test_period_includes_all_hours_of_its_last_date():
    dataset = atmosphere()
    period = statistics.compute_statistics(
        dataset, CHANNELS, start='2020-01-01', end='2020-01-02'
    )
    assert period.attrs['num_times'] == 8
    assert period.attrs['last_time'] == '2020-01-02T18:00:00'
    first = statistics.compute_statistics(dataset.isel(time=slice(8)), CHANNELS)
    assert_same(period, first, **ROUND_OFF)


class CountingStore(zarr.storage.WrapperStore):
    """Counts how often every chunk is read."""

    def __init__(self, store):
        super().__init__(store)
        self.reads = collections.Counter()

    async def get(self, key, *args, **kwargs):
        self.reads[key] += 1
        return await super().get(key, *args, **kwargs)


def write_zarr(dataset, path, times_per_chunk):
    chunks = {
        name: {'chunks': (times_per_chunk, *field.shape[1:])}
        for name, field in dataset.items()
    }
    dataset.to_zarr(path, zarr_format=2, consolidated=False, encoding=chunks)


@pytest.mark.parametrize('times_per_chunk', [1, 4])
def test_every_chunk_of_the_period_is_read_once_and_no_other(tmp_path, times_per_chunk):
    write_zarr(atmosphere(24), tmp_path / 'a.zarr', times_per_chunk)
    store = CountingStore(zarr.storage.LocalStore(tmp_path / 'a.zarr', read_only=True))
    dataset = xarray.open_zarr(store, chunks=None, consolidated=False)
    store.reads.clear()
    slab = 8 * GRID.num_lat * GRID.num_lon
    statistics.compute_statistics(
        # The period starts within a chunk of four.
        dataset,
        CHANNELS,
        start='2020-01-02T12:00',
        end='2020-01-04',
        max_bytes=9 * slab,
    )
    reads = {k: n for k, n in store.reads.items() if k.startswith('2m_temp')}
    reads = {k: n for k, n in reads.items() if '/.' not in k}
    chunks = range(6 // times_per_chunk, -(-16 // times_per_chunk))
    assert reads == {f'2m_temperature/{i}.0.0': 1 for i in chunks}


def test_memory_does_not_grow_with_the_number_of_times(tmp_path):
    peaks = []
    for num_times in (20, 200):
        path = tmp_path / f'{num_times}.zarr'
        write_zarr(atmosphere(num_times), path, 1)
        dataset = xarray.open_zarr(path, chunks=None, consolidated=False)
        tracemalloc.start()
        statistics.compute_statistics(dataset, CHANNELS, max_bytes=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    slab = 8 * 2 * GRID.num_lat * GRID.num_lon
    # A hundred bytes or so per time for the axis, against 14 kB of fields.
    assert peaks[1] - peaks[0] < 180 * slab / 20


def test_constant_channel_is_named():
    dataset = atmosphere()
    dataset['temperature'][:, 1] = 273.15
    with pytest.raises(ValueError, match='zero standard deviation.*: temperature@850'):
        statistics.compute_statistics(dataset, CHANNELS)


def test_channel_that_never_changes_is_named():
    dataset = atmosphere()
    dataset['2m_temperature'][:] = dataset['2m_temperature'][0]
    with pytest.raises(ValueError, match='zero tendency.*: 2m_temperature$'):
        statistics.compute_statistics(dataset, CHANNELS)


def test_channel_of_nothing_but_nan_is_named():
    dataset = atmosphere()
    dataset['v_component_of_wind'][:, 0] = np.nan
    with pytest.raises(
        ValueError, match="no time.*below_ground='fill'.*: v_component_of_wind@500"
    ):
        statistics.compute_statistics(dataset, CHANNELS)


def test_channel_without_neighbouring_times_is_named():
    dataset = atmosphere()
    dataset['temperature'][::2, 0] = np.nan
    with pytest.raises(ValueError, match='without a tendency.*: temperature@500'):
        statistics.compute_statistics(dataset, CHANNELS)


def test_missing_variables_and_levels_are_named():
    dataset = atmosphere().drop_vars('2m_temperature').sel(level=[500])
    with pytest.raises(ValueError, match='lacks temperature@850, 2m_temperature;'):
        statistics.compute_statistics(dataset, CHANNELS)


def test_too_short_a_period_says_what_the_store_covers():
    with pytest.raises(ValueError, match='2020-01-01T00:00:00 to 2020-01-03T18'):
        statistics.compute_statistics(atmosphere(), CHANNELS, start='2021', end='2022')


def test_file_round_trip_keeps_numbers_order_and_provenance(tmp_path):
    result = statistics.compute_statistics(atmosphere(), CHANNELS, source='gs://a/b')
    path = tmp_path / 'run' / 'statistics.nc'
    statistics.save_statistics(result, path)
    assert [p.name for p in path.parent.iterdir()] == ['statistics.nc']
    loaded = statistics.load_statistics(path, CHANNELS)
    xarray.testing.assert_identical(loaded, result)
    assert loaded.attrs['store'] == 'gs://a/b'
    assert loaded.attrs['timestep_hours'] == 6
    assert loaded.attrs['grid'].startswith('equiangular_with_poles')


def test_channels_are_selected_by_name_whatever_the_order():
    result = statistics.compute_statistics(atmosphere(), CHANNELS)
    fewer = ChannelIndex({'2m_temperature': (), 'temperature': (500, 850)})
    selected = statistics.select_channels(result, fewer)
    assert statistics._channels_of(selected) == list(fewer)
    for channel in fewer:
        assert_same(at(selected, *channel), at(result, *channel), rtol=0)


def test_file_that_lacks_channels_says_which(tmp_path):
    path = tmp_path / 'statistics.nc'
    result = statistics.compute_statistics(atmosphere(), CHANNELS)
    statistics.save_statistics(result, path)
    more = ChannelIndex({'temperature': (500, 1000), 'geopotential': (500,)})
    with pytest.raises(ValueError, match='lack temperature@1000, geopotential@500;'):
        statistics.load_statistics(path, more)
    with pytest.raises(ValueError, match='no statistics at'):
        statistics.load_statistics(tmp_path / 'other.nc', CHANNELS)


@pytest.mark.parametrize(
    'damage, message',
    [
        (lambda s: s['tendency_std'].__setitem__(..., s['std']), 'copy'),
        (lambda s: s['tendency_std'].__setitem__(1, 50.0), 'larger.*temperature@500'),
        (lambda s: s['std'].__setitem__(1, np.nan), 'zero standard.*temperature@500'),
    ],
)
def test_damaged_file_is_refused(tmp_path, damage, message):
    result = statistics.compute_statistics(atmosphere(), CHANNELS)
    damage(result)
    statistics.save_statistics(result, tmp_path / 'statistics.nc')
    with pytest.raises(ValueError, match=message):
        statistics.load_statistics(tmp_path / 'statistics.nc', CHANNELS)


def test_tendency_never_exceeds_what_the_spread_allows():
    # The extreme: a field that changes sign at every step; the ratio tends to 2.
    dataset = atmosphere(10, dtype=np.float64)
    sign = (-1.0) ** np.arange(10)[:, None, None]
    pattern = np.cos(np.radians(GRID.longitudes))
    dataset['2m_temperature'] = (
        dataset['2m_temperature'].dims,
        np.broadcast_to(sign * pattern, dataset['2m_temperature'].shape),
    )
    result = at(
        statistics.compute_statistics(dataset, CHANNELS), '2m_temperature', None
    )
    np.testing.assert_allclose(result['tendency_std'] / result['std'], 2, **ROUND_OFF)


def test_fractional_levels_stay_apart(tmp_path):
    dataset = atmosphere().assign_coords(level=[0.4, 0.7])
    channels = ChannelIndex({'temperature': (0.4, 0.7), '2m_temperature': ()})
    found = statistics.compute_statistics(dataset, channels)
    statistics.save_statistics(found, tmp_path / 'statistics.nc')
    loaded = statistics.load_statistics(tmp_path / 'statistics.nc', channels)
    assert statistics._channels_of(loaded) == list(channels)
    whole = statistics.compute_statistics(
        atmosphere(), ChannelIndex({'temperature': (500, 850), '2m_temperature': ()})
    )
    assert_same(loaded, whole, rtol=0)


@pytest.mark.parametrize('left', [b'', b'CDF\x01cut short'])
def test_a_file_that_a_crash_left_is_one_clear_line(tmp_path, left):
    path = tmp_path / 'statistics.nc'
    path.write_bytes(left)
    with pytest.raises(statistics.DamagedError, match='empty, truncated or damaged'):
        statistics.load_statistics(path, CHANNELS)


def test_summary_shows_the_ratio_of_every_channel():
    result = statistics.compute_statistics(atmosphere(), CHANNELS)
    lines = statistics.summary(result).splitlines()
    assert len(lines) == 1 + len(CHANNELS)
    ratio = float(result['tendency_std'][0] / result['std'][0])
    assert lines[1].startswith('temperature@850')
    assert lines[1].endswith(f'{ratio:.3f}')


def test_reanalysis_with_levels_that_it_lacks_left_out(shared_data):
    store = pytest.importorskip('weather.data.store')
    levels = (100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
    channels = ChannelIndex(
        {
            'geopotential': (50, *levels),
            'specific_humidity': levels[4:],
            'u_component_of_wind': (50, *levels),
            'v_component_of_wind': (50, *levels),
            'vertical_velocity': levels,
        }
    )
    path = shared_data / 'ncep_r1_20220101_5d_73x144.zarr'
    dataset = store.open_store(path, levels=channels.levels)
    result = statistics.compute_statistics(dataset, channels)
    assert (result['num_times'] == 5).all()
    assert result.attrs['timestep_hours'] == 24
    assert 'equiangular_with_poles, 73' in result.attrs['grid']
    # Textbook figures of January: 500 hPa lies at 5.6 km, westerlies at 250 hPa.
    z500 = at(result, 'geopotential', 500)
    np.testing.assert_allclose(z500['mean'] / 9.80665, 5650, atol=60)
    assert 0.1 < z500['tendency_std'] / z500['std'] < 0.25
    assert 10 < at(result, 'u_component_of_wind', 250)['mean'] < 20
    with pytest.raises(ValueError, match='no time.*: vertical_velocity@50'):
        everything = ChannelIndex({'vertical_velocity': (50, 100)})
        dataset = xarray.open_zarr(path, chunks=None).sortby(
            'latitude', ascending=False
        )
        statistics.compute_statistics(dataset, everything)


def test_command_answers_help_with_an_example():
    script = 'scripts/compute_statistics.py'
    asked = subprocess.run(
        [sys.executable, script, '--help'], capture_output=True, text=True, timeout=60
    )
    assert '--config=configs/demo.py --workdir=runs/demo' in asked.stdout
