import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from weather.evaluation import evaluate, pairing, regions, score_file

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
    mean = regions.RegionalMean(
        sources.truth.latitude.values,
        sources.truth.longitude.values,
        {region: regions.REGIONS[region]},
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
    return truth_as_forecast(sources, sources.truth)


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


def not_scored(scores):
    return json.loads(scores.attrs['not_scored'])


def test_starts_that_the_truth_does_not_cover_are_left_out(sources, scores):
    short = sources.truth.isel(time=slice(0, 7))
    part = evaluate.evaluate(sources.forecasts, short, sources.climatology)
    ((name, reason),) = not_scored(part).items()
    assert name == '1 of 3 starts' and 'the truth goes from 2020-02-27' in reason
    assert part.attrs['num_starts'] == 2
    assert part.attrs['starts'] == '2020-02-27T00:00 2020-02-27T12:00'
    fewer = evaluate.evaluate(
        sources.forecasts.isel(time=[0, 1]), sources.truth, sources.climatology
    )
    xr.testing.assert_equal(part, fewer)
    assert not part.equals(scores)


def test_without_persistence_the_truth_need_not_hold_the_start(sources):
    late = sources.truth.isel(time=slice(1, None))
    scores = evaluate.evaluate(sources.forecasts, late, baselines=[])
    assert scores.attrs['num_starts'] == 3
    assert scores.attrs['first_start'] == '2020-02-27T00:00'
    complete = evaluate.evaluate(sources.forecasts, sources.truth, baselines=[])
    xr.testing.assert_equal(scores, complete)


def test_lead_times_between_the_times_of_the_truth_are_listed(sources, scores):
    # Starts at 00 and 12 UTC, truth every 12 hours.
    sources.forecasts = sources.forecasts.isel(time=[0, 1])
    part = evaluate.evaluate(
        sources.forecasts, sources.truth.isel(time=slice(0, None, 2))
    )
    assert list(part.lead_time.values) == [12 * HOURS, 24 * HOURS]
    assert list(not_scored(part)) == ['lead time 6 h', 'lead time 18 h']
    whole = evaluate.evaluate(sources.forecasts, sources.truth)
    xr.testing.assert_equal(part, whole.sel(lead_time=part.lead_time))


def test_forecasts_by_valid_time_score_as_those_by_start(sources, scores):
    forecasts = sources.forecasts
    parts = [
        forecasts.isel(prediction_timedelta=i).assign_coords(time=forecasts.time + lead)
        for i, lead in enumerate(forecasts.prediction_timedelta.values)
    ]
    by_valid = xr.concat(parts, 'prediction_timedelta', join='outer')
    by_valid.time.attrs = {'standard_name': 'time', 'long_name': 'valid time'}
    found = evaluate.evaluate(by_valid, sources.truth, sources.climatology)
    # Starts between those may be in the store as well: they are NaN, and left out.
    xr.testing.assert_allclose(found, scores, rtol=1e-12)


@pytest.mark.parametrize(
    'name', ['config_hash', 'checkpoint', 'checkpoint_digest', 'initial_states']
)
def test_forecasts_that_do_not_belong_together_are_refused(sources, tmp_path, name):
    for i, start in enumerate(sources.forecasts.time.values):
        one = sources.forecasts.sel(time=start, drop=True)
        one = one.rename(prediction_timedelta='time')
        one = one.assign_coords(
            forecast_period=('time', one.time.values),
            time=start + one.time.values,
            forecast_reference_time=start,
        ).assign_attrs({'config_hash': 'a', 'checkpoint': 'b', name: f'{i // 2}'})
        one.to_netcdf(tmp_path / f'{i}.nc')
    with pytest.raises(ValueError, match=f'2.nc: {name} 1 differs from 0'):
        evaluate.evaluate(tmp_path, sources.truth)
    (tmp_path / '2.nc').unlink()
    scores = evaluate.evaluate(tmp_path, sources.truth)
    assert scores.attrs[f'forecast_{name}'] == '0'


def test_the_mean_of_the_members_is_scored(sources):
    single = sources.forecasts
    members = [single + 2, single - 2]
    ensemble = xr.concat(members, 'number').assign_coords(number=[0, 1])
    scores = evaluate.evaluate(
        ensemble.transpose('time', ..., 'number'), sources.truth, sources.climatology
    )
    assert scores.attrs['members'] == 2
    expected = evaluate.evaluate(single, sources.truth, sources.climatology)
    # Members are float32: each rounds at 1e-7 of itself.
    xr.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def with_rain(dataset, units, factor):
    """The surface variable, in metres and positive, as one that has no entry."""
    rain = (dataset['2m_temperature'] + 10) * factor
    return dataset.assign(rain=rain.assign_attrs(units=units))


@pytest.mark.parametrize('units', ['mm', 'm'])
@pytest.mark.parametrize('which', ['forecasts', 'climatology'])
def test_units_of_foreign_variables_become_those_of_the_truth(sources, units, which):
    factor = {'mm': 1000, 'm': 1}[units]
    for name, dataset in vars(sources).items():
        setattr(sources, name, with_rain(dataset, 'm', 1))
    expected = evaluate.evaluate(**vars(sources))
    other = with_rain(getattr(sources, which), units, factor)
    setattr(sources, which, other)
    found = evaluate.evaluate(**vars(sources))
    # float32 times a thousand rounds.
    xr.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_units_that_do_not_convert_are_listed(sources):
    forecasts = with_rain(sources.forecasts, 'kg m-2', 1)
    climatology = with_rain(sources.climatology, 'K', 1)
    truth = with_rain(sources.truth, 'm', 1)
    reason = "units 'kg m-2' of the forecast are not 'm' of the truth"
    scores = evaluate.evaluate(forecasts, truth, climatology)
    assert not_scored(scores) == {'rain': reason}
    assert 'rain' not in scores.variable
    with pytest.raises(ValueError, match=f"'rain' is not in both .*{reason}"):
        evaluate.evaluate(forecasts, truth, levels={'rain': ()})
    scores = evaluate.evaluate(truth_as_forecast(sources, truth), truth, climatology)
    assert not_scored(scores) == {'ACC of rain': "units 'K' in the climatology"}


def truth_as_forecast(sources, truth):
    valid = sources.forecasts.time + sources.forecasts.prediction_timedelta
    return truth.sel(time=valid).assign_coords(time=sources.forecasts.time)


def test_known_variables_are_scored_in_si_units(sources):
    # Values of order one are no temperatures; the reader asks for no plausibility.
    expected = evaluate.evaluate(sources.forecasts, sources.truth)
    sources.forecasts['2m_temperature'] = (
        sources.forecasts['2m_temperature'] - 273.15
    ).assign_attrs(units='degC')
    found = evaluate.evaluate(sources.forecasts, sources.truth)
    xr.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('which', ['forecasts', 'truth', 'both', 'climatology'])
def test_hopeless_units_of_one_variable_stop_no_other(sources, scores, which):
    for name in ('forecasts', 'truth') if which == 'both' else (which,):
        getattr(sources, name)['2m_temperature'].attrs['units'] = 'Pa'
    found = evaluate.evaluate(**vars(sources))
    ((name, reason),) = not_scored(found).items()
    expected = {'climatology': 'ACC of 2m_temperature'}
    assert name == expected.get(which, '2m_temperature')
    assert "expected 2m_temperature in 'K' or units that convert to it" in reason
    others = [name for name in scores.variable.values if name != '2m_temperature']
    xr.testing.assert_equal(
        found.sel(variable=others, level=[500, 850]),
        scores.sel(variable=others, level=[500, 850]),
    )
    if which == 'truth':
        with pytest.raises(ValueError, match="'2m_temperature' is not .* units that"):
            evaluate.evaluate(**vars(sources), levels={'2m_temperature': ()})


def test_a_variable_along_foreign_axes_stops_no_other(sources):
    wide = sources.truth['2m_temperature'].expand_dims(quantile=3)
    sources.truth = sources.truth.assign(rain=wide, **{'2m_temperature': wide})
    found = not_scored(evaluate.evaluate(sources.forecasts, sources.truth))
    assert found['rain'] == 'has the foreign axis quantile (3): select along it'
    assert "found ('quantile', 'time'" in found['2m_temperature']


@pytest.mark.parametrize('which', ['forecasts', 'truth', 'climatology'])
def test_celsius_that_nobody_states_is_suspect(sources, which, caplog):
    for name, dataset in vars(sources).items():
        kelvin = dataset['2m_temperature'] + 273.15 * (name != which)
        setattr(sources, name, dataset.assign({'2m_temperature': kelvin}))
    scores = evaluate.evaluate(**vars(sources))
    (name,) = json.loads(scores.attrs['suspect'])
    assert name == '2m_temperature'
    assert 'suspect:\n  mean ' in evaluate.format_scores(scores)
    assert '2m_temperature: mean' in caplog.text


def test_truth_of_one_member_serves_and_of_several_does_not(sources, scores):
    one = sources.truth.expand_dims(number=[0])
    found = evaluate.evaluate(sources.forecasts, one, sources.climatology)
    xr.testing.assert_equal(found, scores)
    two = xr.concat([one, one.assign_coords(number=[1])], 'number')
    with pytest.raises(ValueError, match='truth has 2 members: expected one'):
        evaluate.evaluate(sources.forecasts, two)


def test_levels_between_whole_hectopascals_are_scored(sources, tmp_path):
    # 12.7 hPa in float32 is 12.69999981.
    for name in ('forecasts', 'truth'):
        dataset = getattr(sources, name)
        level = dataset.level.astype(np.float32 if name == 'truth' else float)
        level = xr.where(level == 500, level.dtype.type(12.7), level)
        setattr(sources, name, dataset.assign_coords(level=level))
    scores = evaluate.evaluate(sources.forecasts, sources.truth)
    assert list(scores.level) == [-1, 12.7, 850]
    assert scores.rmse.sel(variable='geopotential', level=[12.7, 850]).notnull().all()
    evaluate.write_scores(scores, tmp_path / 's.csv')
    lines = (tmp_path / 's.csv').read_text().splitlines()
    assert {line.split(',')[2] for line in lines[1:]} == {'', '12.7', '850'}
    read = score_file.read_scores(tmp_path / 's.csv')
    assert set(read.level.dropna()) == {12.7, 850}
    text = evaluate.format_scores(scores)
    assert 'wind_vector 850 ' in text


def test_whole_levels_are_written_as_integers(scores, tmp_path):
    evaluate.write_scores(scores, tmp_path / 's.csv')
    lines = (tmp_path / 's.csv').read_text().splitlines()
    assert {line.split(',')[2] for line in lines[1:]} == {'', '500', '850'}


def test_what_was_not_scored_is_listed_with_the_reason(sources):
    level = np.array([500, 850])
    forecasts = sources.forecasts.rename(u_component_of_wind='u_component_of_wnd')
    forecasts['geopotential'][:, :, 1] = np.nan
    forecasts['soil_type'] = forecasts['2m_temperature'][0, 0].drop_vars(
        ['time', 'prediction_timedelta']
    )
    truth = sources.truth.assign_coords(level=[400, 500, 850][1:])
    truth['soil_type'] = forecasts['soil_type']
    upper = truth['v_component_of_wind'].isel(level=[0])
    truth = truth.drop_vars('v_component_of_wind').assign(
        v_component_of_wind=upper.reindex(level=level)
    )
    scores = evaluate.evaluate(forecasts, truth)
    found = not_scored(scores)
    assert found == {
        'u_component_of_wind': "only in the truth, did you mean 'u_component_of_wnd'?",
        'u_component_of_wnd': 'only in the forecast, did you mean '
        "'u_component_of_wind'?",
        'soil_type': 'no axis prediction_timedelta and time in the forecast',
        'geopotential@850': 'NaN in forecast or truth at every start',
        'v_component_of_wind@850': 'NaN in forecast or truth at every start',
    }
    text = evaluate.format_scores(scores)
    assert 'not scored:\n' in text
    assert (
        '  NaN in forecast or truth at every start: geopotential@850, '
        'v_component_of_wind@850' in text
    )


def test_levels_of_one_source_alone_are_listed(sources):
    truth = sources.truth.assign_coords(level=[500, 875])
    forecasts = sources.forecasts.assign_coords(level=[12.5, 500])
    truth['geopotential'], forecasts['geopotential'] = (
        truth.geopotential.roll(level=1),
        forecasts.geopotential,
    )
    reason = 'levels 12.5 hPa only in the forecast and levels 875 hPa only in the truth'
    found = not_scored(evaluate.evaluate(forecasts, truth))
    assert found == dict.fromkeys(
        ['geopotential', 'u_component_of_wind', 'v_component_of_wind'], reason
    )


def test_what_was_not_asked_for_is_not_listed(sources):
    scores = evaluate.evaluate(
        sources.forecasts.drop_vars('2m_temperature'),
        sources.truth,
        levels={'geopotential': (500,)},
    )
    assert not_scored(scores) == {}
    assert 'not scored' not in evaluate.format_scores(scores)


def test_a_variable_that_the_climatology_lacks_is_listed(sources):
    scores = evaluate.evaluate(
        sources.forecasts,
        sources.truth,
        sources.climatology.drop_vars('2m_temperature'),
    )
    assert not_scored(scores) == {'ACC of 2m_temperature': 'not in the climatology'}
    assert (
        scores.rmse.sel(model='spherecast', variable='2m_temperature', level=-1)
        .notnull()
        .all()
    )


@pytest.mark.parametrize('which', ['forecasts', 'truth'])
def test_one_nan_leaves_out_its_start_there_for_every_model(sources, scores, which):
    if which == 'forecasts':
        # 40 degrees north, Greenwich: in Europe, not in the tropics; at 12 h.
        sources.forecasts['geopotential'][0, 1, 1, 5, 0] = np.nan
    else:
        # The valid time of the first start at 12 h, and of nothing else but persistence
        # of the second start.
        sources.truth['geopotential'][2, 1, 5, 0] = np.nan
    found = evaluate.evaluate(sources.forecasts, sources.truth, sources.climatology)
    at = dict(variable='geopotential', level=850, lead_time=12 * HOURS)
    lost = [0] if which == 'forecasts' else [0, 1]
    others = np.setdiff1d([0, 1, 2], lost)
    without = evaluate.evaluate(
        sources.forecasts.isel(time=others), sources.truth, sources.climatology
    )
    for region, expected in (('europe', without), ('tropics', scores)):
        xr.testing.assert_allclose(
            found.sel(at).sel(region=region),
            expected.sel(at).sel(region=region),
            rtol=1e-12,
        )
    reason = not_scored(found)['geopotential@850']
    assert f'up to {len(lost)} of 3 starts left out at lead times' in reason
    assert ', europe' in reason and ', tropics' not in reason


def test_both_components_of_a_wind_lose_the_same_starts(sources):
    sources.forecasts['u_component_of_wind'][0, 1, 1, 5, 0] = np.nan
    scores = evaluate.evaluate(sources.forecasts, sources.truth)
    rmse = scores.rmse.sel(level=850, lead_time=12 * HOURS, region='global')
    components = ['u_component_of_wind', 'v_component_of_wind']
    np.testing.assert_allclose(
        rmse.sel(variable='wind_vector') ** 2,
        (rmse.sel(variable=components) ** 2).sum('variable'),
        **ROUND_OFF,
    )
    assert 'v_component_of_wind@850' in not_scored(scores)


def limited(dataset):
    """Rows 30 to 80 north, columns 340 to 50 east."""
    columns = (dataset.longitude >= 340) | (dataset.longitude <= 50)
    return dataset.sel(latitude=slice(80, 30)).isel(longitude=columns.values)


def test_a_limited_area_is_scored_as_itself_and_not_as_the_globe(sources, scores):
    for name, dataset in vars(sources).items():
        setattr(sources, name, limited(dataset))
    found = evaluate.evaluate(**vars(sources))
    assert list(found.region.values) == ['area', 'europe']
    assert 'latitudes 25 to 85, longitudes 335 to 55' in found.attrs['grid']
    for metric in ('rmse', 'acc'):
        xr.testing.assert_allclose(
            found[metric].sel(region='europe'),
            scores[metric].sel(region='europe'),
            rtol=1e-12,
        )
    assert 'RMSE, area, by lead time' in evaluate.format_scores(found)


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


def test_summary_names_grid_and_weights(scores):
    text = evaluate.format_scores(scores)
    assert 'equiangular_with_poles, 19 x 36' in text
    assert regions.WEIGHTING in text
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
            lambda s: vars(s).update(truth=s.truth.isel(time=slice(0, 1))),
            'initial and valid times of no start at any lead time',
        ),
        (
            lambda s: vars(s).update(truth=s.truth.rename(latitude='row')),
            'expected fields with dims latitude and longitude',
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


def test_infinite_truth_leaves_a_start_out_as_a_missing_one_does(sources):
    spoilt = [sources.truth.copy(deep=True) for _ in range(2)]
    for dataset, value in zip(spoilt, (np.nan, np.inf), strict=True):
        dataset['2m_temperature'][6, 0, 0] = value
    missing, infinite = (evaluate.evaluate(sources.forecasts, t) for t in spoilt)
    xr.testing.assert_equal(infinite, missing)
    assert not_scored(infinite) == not_scored(missing) != {}
