import numpy as np
import pandas as pd
import pytest
import xarray as xr

from weather.evaluation import evaluate, metrics, pairing

# float64 sums of float32 fields: only round-off remains.
ROUND_OFF = dict(rtol=1e-12, atol=1e-13)
# WeatherBench 2 sums in float32; its own round-off stays below this on 73 x 144 points.
FLOAT32_SUMS = dict(rtol=1e-5, atol=0)
HOURS = np.timedelta64(1, 'h')


@pytest.fixture
def scores(sources):
    return evaluate.evaluate(sources.forecasts, sources.truth, sources.climatology)


def explicit_scores(sources, name, level, lead, region='global'):
    """Scores of the forecasts by the formulas, one start after the other."""
    mean = metrics.RegionalMean(
        sources.truth.latitude.values,
        sources.truth.longitude.values,
        {region: metrics.REGIONS[region]},
    )
    bias, mae, mse, acc = [], [], [], []
    for start in sources.forecasts.time.values:
        valid = pd.Timestamp(start + lead)
        at = dict(level=level)
        f = sources.forecasts[name].sel(time=start, prediction_timedelta=lead, **at)
        o = sources.truth[name].sel(time=valid, **at)
        c = sources.climatology[name].sel(
            hour=valid.hour, dayofyear=valid.day_of_year, **at
        )
        f, o, c = (x.values.astype(np.float64) for x in (f, o, c))
        bias.append(mean(f - o))
        mae.append(mean(abs(f - o)))
        mse.append(mean((f - o) ** 2))
        covariance, norms = (
            mean((f - c) * (o - c)),
            mean((f - c) ** 2) * mean((o - c) ** 2),
        )
        acc.append(covariance / np.sqrt(norms))
    return {
        'rmse': np.sqrt(np.mean(mse)),
        'bias': np.mean(bias),
        'mae': np.mean(mae),
        'acc': np.mean(acc),
    }


@pytest.mark.parametrize('region', ['global', 'europe'])
def test_scores_are_the_formulas_averaged_over_starts(sources, scores, region):
    for name in ('geopotential', 'v_component_of_wind'):
        for lead in sources.forecasts.prediction_timedelta.values:
            expected = explicit_scores(sources, name, 850, lead, region)
            found = scores.sel(
                model='spherecast',
                variable=name,
                level=850,
                lead_time=lead,
                region=region,
            )
            for metric, value in expected.items():
                np.testing.assert_allclose(found[metric], value, **ROUND_OFF)


def test_rmse_is_the_root_of_the_mean_not_the_mean_of_roots(sources):
    # Errors of 1, 2 and 6 at three starts.
    errors = xr.DataArray([1.0, 2.0, 6.0], dims='time')
    sources.forecasts = perfect(sources) + errors.assign_coords(
        time=sources.forecasts.time
    )
    scores = evaluate.evaluate(sources.forecasts, sources.truth)
    rmse = scores.rmse.sel(model='spherecast', variable='geopotential', level=500)
    # The forecasts are float32: adding the error rounds at 1e-7 of it.
    np.testing.assert_allclose(rmse, np.sqrt(41 / 3), rtol=1e-6)


def perfect(sources):
    """Forecasts that equal the truth at the valid time."""
    valid = sources.forecasts.time + sources.forecasts.prediction_timedelta
    return sources.truth.sel(time=valid).assign_coords(time=sources.forecasts.time)


def test_perfect_forecasts_have_no_error_and_correlate_perfectly(sources):
    scores = evaluate.evaluate(perfect(sources), sources.truth, sources.climatology)
    ours = scores.sel(model='spherecast')
    single = ours.sel(variable='geopotential', level=[500, 850])
    np.testing.assert_array_equal(single[['rmse', 'bias', 'mae']].to_array(), 0)
    np.testing.assert_allclose(single.acc, 1, **ROUND_OFF)
    np.testing.assert_array_equal(ours.rmse.sel(variable='wind_vector', level=500), 0)


def test_persistence_is_the_truth_at_the_start(sources, scores):
    persistence = sources.truth.sel(time=sources.forecasts.time).expand_dims(
        prediction_timedelta=sources.forecasts.prediction_timedelta
    )
    explicit = evaluate.evaluate(persistence, sources.truth, sources.climatology)
    xr.testing.assert_equal(
        explicit.sel(model='spherecast', drop=True),
        scores.sel(model='persistence', drop=True),
    )


def test_climatology_is_read_at_day_and_hour_of_the_valid_time(sources, scores):
    valid = sources.forecasts.time + sources.forecasts.prediction_timedelta
    climatology = sources.climatology.sel(
        hour=valid.dt.hour, dayofyear=valid.dt.dayofyear
    ).drop_vars(['hour', 'dayofyear'])
    explicit = evaluate.evaluate(climatology, sources.truth)
    for metric in ('rmse', 'bias', 'mae'):
        xr.testing.assert_allclose(
            explicit[metric].sel(model='spherecast', drop=True),
            scores[metric].sel(model='climatology', drop=True),
            rtol=1e-12,
        )
    assert scores.acc.sel(model='climatology').isnull().all()


def test_climatology_as_truth_has_no_error(sources):
    time = sources.truth.time
    truth = sources.climatology.sel(hour=time.dt.hour, dayofyear=time.dt.dayofyear)
    truth = truth.drop_vars(['hour', 'dayofyear'])
    scores = evaluate.evaluate(sources.forecasts, truth, sources.climatology)
    rmse = scores.rmse.sel(model='climatology', variable='geopotential')
    np.testing.assert_array_equal(rmse.sel(level=[500, 850]), 0)


def test_wind_vector_error_is_the_sum_over_components(scores):
    rmse = scores.rmse.sel(level=[500, 850])
    components = ['u_component_of_wind', 'v_component_of_wind']
    np.testing.assert_allclose(
        rmse.sel(variable='wind_vector') ** 2,
        (rmse.sel(variable=components) ** 2).sum('variable'),
        **ROUND_OFF,
    )
    assert scores.bias.sel(variable='wind_vector').isnull().all()


def orient(dataset, orientation):
    """The same fields as another writer might store them."""
    if orientation == 'south to north':
        return dataset.sortby('latitude')
    if orientation == 'from the date line':
        longitude = (dataset.longitude + 180) % 360 - 180
        return dataset.assign_coords(longitude=longitude).sortby('longitude')
    if orientation == 'longitude first':
        return dataset.transpose('longitude', 'latitude', ...)
    return dataset.sortby('level', ascending=False)


@pytest.mark.parametrize('which', ['forecasts', 'truth', 'climatology'])
@pytest.mark.parametrize(
    'orientation',
    ['south to north', 'from the date line', 'longitude first', 'levels downwards'],
)
def test_scores_do_not_depend_on_orientation(sources, scores, which, orientation):
    setattr(sources, which, orient(getattr(sources, which), orientation))
    turned = evaluate.evaluate(sources.forecasts, sources.truth, sources.climatology)
    xr.testing.assert_equal(turned, scores)


def test_stores_on_disk_score_as_in_memory(sources, scores, tmp_path):
    paths = {}
    for name, dataset in vars(sources).items():
        paths[name] = tmp_path / f'{name}.zarr'
        # Chunks of several times, which the readers must cut again.
        encoding = {
            variable: {'chunks': [3, 2, 2, 10, 20][-dataset[variable].ndim :]}
            for variable in dataset
        }
        dataset.to_zarr(paths[name], zarr_format=2, encoding=encoding)
    stored = evaluate.evaluate(*paths.values())
    xr.testing.assert_equal(stored, scores)


def test_a_cache_of_one_block_gives_the_same_scores(sources, scores):
    little = evaluate.evaluate(
        sources.forecasts, sources.truth, sources.climatology, cache_bytes=1
    )
    xr.testing.assert_equal(little, scores)


def test_blocks_of_lead_times_give_the_same_scores(sources, scores, monkeypatch):
    monkeypatch.setattr(pairing, 'BLOCK_BYTES', 1)
    blocks = evaluate.evaluate(sources.forecasts, sources.truth, sources.climatology)
    xr.testing.assert_equal(blocks, scores)


def test_selections_are_parts_of_the_whole(sources, scores):
    part = evaluate.evaluate(
        sources.forecasts,
        sources.truth,
        sources.climatology,
        levels={'geopotential': (850,), '2m_temperature': ()},
        regions=['europe', 'global'],
        lead_times=[24 * HOURS, 6 * HOURS],
        baselines=['climatology'],
    )
    assert part.sizes == dict(model=2, variable=2, level=2, region=2, lead_time=2)
    for name, level in (('geopotential', 850), ('2m_temperature', -1)):
        at = dict(variable=name, level=level)
        # Other regions beside it change the order of the sums over rows.
        xr.testing.assert_allclose(
            part.sel(at),
            scores.sel(at).sel({k: part[k] for k in set(part.dims) - set(at)}),
            rtol=1e-12,
        )


def test_starts_that_the_truth_does_not_cover_are_left_out(sources, scores, caplog):
    short = sources.truth.isel(time=slice(0, 7))
    with caplog.at_level('WARNING', logger='weather'):
        part = evaluate.evaluate(sources.forecasts, short, sources.climatology)
    assert 'scored 2 of 3 starts' in caplog.text
    assert part.attrs['num_starts'] == 2
    fewer = evaluate.evaluate(
        sources.forecasts.isel(time=[0, 1]), sources.truth, sources.climatology
    )
    xr.testing.assert_equal(part, fewer)
    assert not part.equals(scores)


def test_nan_of_a_level_leaves_the_others_scored(sources):
    sources.forecasts['geopotential'][:, :, 0] = np.nan
    scores = evaluate.evaluate(sources.forecasts, sources.truth)
    table = evaluate.score_table(scores)
    ours = table[(table.model == 'spherecast') & (table.variable == 'geopotential')]
    assert set(ours.level) == {850}
    assert ours.value.notna().all()


def test_nan_that_sets_in_later_stays_visible(sources):
    sources.forecasts['geopotential'][:, 2:] = np.nan
    table = evaluate.score_table(evaluate.evaluate(sources.forecasts, sources.truth))
    ours = table[(table.model == 'spherecast') & (table.variable == 'geopotential')]
    np.testing.assert_array_equal(ours.value.isna(), ours.lead_time_hours > 12)


def test_table_has_the_columns_and_rows_that_are_defined(sources, scores):
    table = evaluate.score_table(scores)
    assert tuple(table.columns) == evaluate.COLUMNS
    assert set(table.model) == {'spherecast', 'persistence', 'climatology'}
    assert set(table.lead_time_hours) == {6, 12, 18, 24}
    assert table.level[table.variable == '2m_temperature'].isna().all()
    assert set(table.metric[table.variable == 'wind_vector']) == {'rmse'}
    assert 'acc' not in set(table.metric[table.model == 'climatology'])
    assert table.value.notna().all()


def test_csv_appears_whole_and_reads_back(scores, tmp_path):
    path = tmp_path / 'new' / 'scores.csv'
    evaluate.write_scores(scores, path)
    assert [file.name for file in path.parent.iterdir()] == ['scores.csv']
    read = pd.read_csv(path, dtype={'level': 'Int64'})
    table = evaluate.score_table(scores)
    np.testing.assert_allclose(read.value, table.value, rtol=1e-8)
    assert (read[['model', 'region']] == table[['model', 'region']]).all(axis=None)
    assert read.level.equals(table.level)


def test_summary_names_grid_and_weights(scores):
    text = evaluate.format_scores(scores)
    assert 'equiangular_with_poles, 19 x 36' in text
    assert metrics.WEIGHTING in text
    assert 'wind_vector' in text


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda s: vars(s).update(truth=s.truth.isel(longitude=slice(0, None, 2))),
            'forecast has 36 values of longitude, truth has 18',
        ),
        (
            lambda s: vars(s).update(
                truth=s.truth.assign_coords(latitude=s.truth.latitude * 0.999)
            ),
            'latitude of forecast differs from that of truth by up to 0.09 degrees',
        ),
        (
            lambda s: vars(s).update(climatology=s.climatology.isel(hour=[0])),
            r'no data for \d+ of \d+ valid times: .* at hours \[6, 12, 18\]',
        ),
        (
            lambda s: vars(s).update(climatology=s.climatology.isel(dayofyear=[0, 1])),
            'days of the year 59 to 60',
        ),
        (
            lambda s: vars(s).update(truth=s.truth.isel(time=slice(0, 3))),
            'initial and all valid times of no start',
        ),
        (
            lambda s: vars(s).update(truth=s.truth.rename(latitude='lat')),
            'dimension coordinates latitude and longitude',
        ),
        (
            lambda s: vars(s).update(truth=s.truth.assign_coords(level=[1, 2])),
            None,
        ),
        (
            lambda s: s.forecasts.update(s.forecasts * np.nan),
            'no forecast could be scored',
        ),
    ],
)
def test_sources_that_do_not_fit_are_errors(sources, change, message):
    change(sources)
    if message is None:
        # Only the surface variable is left in common.
        scores = evaluate.evaluate(sources.forecasts, sources.truth)
        assert list(scores.variable) == ['2m_temperature']
        return
    with pytest.raises(ValueError, match=message):
        evaluate.evaluate(sources.forecasts, sources.truth, sources.climatology)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(levels={'geopotental': (500,)}), "did you mean 'geopotential'"),
        (dict(levels={'geopotential': (700,)}), r'at \[700\]; they share its levels'),
        (dict(lead_times=[48 * HOURS]), r'no lead times of \[48.0\] hours'),
        (dict(lead_times=[6, 12]), 'lead times as timedelta64'),
        (dict(baselines=['persistance']), "did you mean 'persistence'"),
        (dict(regions=['globe']), "did you mean 'global'"),
        (dict(model='persistence'), 'as a baseline is'),
    ],
)
def test_options_that_are_none_are_errors(sources, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate.evaluate(
            sources.forecasts, sources.truth, sources.climatology, **options
        )


def test_baseline_climatology_needs_a_climatology(sources):
    with pytest.raises(ValueError, match='needs a climatology store'):
        evaluate.evaluate(sources.forecasts, sources.truth, baselines=['climatology'])


def test_persistence_on_real_data_scores_as_weatherbench2_printed(shared_data):
    truth = shared_data / 'ncep_r1_20220101_5d_73x144.zarr'
    climatology = shared_data / 'ncep_r1_climatology_1991_2020_jan01_06.zarr'
    expected = pd.read_csv(shared_data / 'expected' / 'weatherbench2_persistence.csv')
    names = ['geopotential', 'u_component_of_wind', 'v_component_of_wind']
    initial = xr.open_zarr(truth, chunks=None)[names].isel(time=[0, 1])
    forecasts = initial.expand_dims(
        prediction_timedelta=np.unique(expected.lead_h).astype(int) * HOURS
    )
    table = evaluate.score_table(
        evaluate.evaluate(
            forecasts,
            truth,
            climatology,
            levels={name: (500, 850) for name in names},
        )
    )
    keys = ['variable', 'level', 'region', 'lead_time_hours']
    expected = expected.rename(columns={'lead_h': 'lead_time_hours'}).replace(
        {'n_hem': 'northern-hemisphere', 's_hem': 'southern-hemisphere'}
    )
    found = table[table.model == 'persistence'].pivot(
        index=keys, columns='metric', values='value'
    )
    both = expected.merge(found.reset_index(), on=keys, suffixes=('', '_found'))
    assert len(both) == len(expected) == 90
    for metric in ('rmse', 'acc', 'bias'):
        np.testing.assert_allclose(
            both[f'{metric}_found'], both[metric], err_msg=metric, **FLOAT32_SUMS
        )
