"""Sections of the report that show fields: maps and spectra; and the training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from weather.evaluation.headlines import HEADLINES, Headline
from weather.evaluation.spectra import power_spectra
from weather.evaluation.summary import USUAL_LEADS, choose_leads
from weather.report.figures import Spectrum, draw_spectra, draw_training, to_image
from weather.report.maps import Globe, MapRow, draw_maps
from weather.report.page import Part, Picture, Section, notice

_HOUR = np.timedelta64(1, 'h')
_MOST_STARTS = 20  # More would not change a mean spectrum that anyone can see.


def verified_starts(forecasts: xr.Dataset, truth: xr.Dataset) -> np.ndarray:
    """Positions of the starts whose valid times the truth holds, all of them."""
    init_times = forecasts.indexes['time']
    lead_times = forecasts.indexes['prediction_timedelta']
    held = [(init_times + lead).isin(truth.indexes['time']) for lead in lead_times]
    return np.flatnonzero(np.all(held, axis=0))


def maps_section(forecasts: xr.Dataset, truth: xr.Dataset) -> Section:
    """Maps of forecast, truth and error from the start in the middle of all.

    Where the truth verifies no start, those of the newest forecast alone.
    """
    verified = verified_starts(forecasts, truth)
    start = int(verified[verified.size // 2]) if verified.size else -1
    lead_hours = (forecasts.prediction_timedelta.values / _HOUR).tolist()
    leads = [lead_hours.index(h) for h in choose_leads(lead_hours, USUAL_LEADS)]
    globe = Globe(forecasts.latitude.values, forecasts.longitude.values, _land(truth))
    text = (
        f'Start {utc(forecasts.time.values[start])}. Colours mean the same at all '
        "lead times. Mollweide's projection, which keeps areas"
        + ('; outlines: half land.' if globe.land is not None else '.')
    )
    if 'member' in forecasts.dims:
        text += f' Forecast: the mean of {forecasts.sizes["member"]} members.'
    parts = [Part('paragraph', text)]
    compared = truth if verified.size else None
    if compared is None:
        last = utc(truth.time.values[-1])
        parts.append(
            notice(
                'There is no truth yet: the truth holds all valid times of no start '
                f'(it ends at {last}). These are maps of the forecast alone.'
            )
        )
    for headline in HEADLINES:
        parts.append(Part('heading', headline.map_words))
        parts.append(_maps(headline, globe, forecasts, compared, start, leads))
    return Section('maps', 'A sample forecast', parts)


def spectra_section(forecasts: xr.Dataset, truth: xr.Dataset) -> Section:
    """Power by degree of forecast and truth at each lead time, and their ratio."""
    return Section('spectra', 'Spectra', _spectra(forecasts, truth))


def _spectra(forecasts: xr.Dataset, truth: xr.Dataset) -> list[Part]:
    try:
        spectra = power_spectra(forecasts, truth, max_starts=_MOST_STARTS)
    except ValueError as error:  # A grid without a transform, or nothing in common.
        return [notice(f'There are no spectra: {error}.')]
    shown = [one for one in HEADLINES if _has_spectrum(one, spectra)]
    parts = [
        notice(f'{one.name} is not shown: it has no complete spectrum.')
        for one in HEADLINES
        if one not in shown
    ]
    if shown:
        figure = draw_spectra([_spectrum(one, spectra) for one in shown])
        picture = Picture(
            to_image(figure, 'svg'),
            'Spectra of forecast and truth by degree, and their ratio',
            'Variance by degree (total wavenumber) of the spherical harmonics, of '
            'winds the kinetic energy, averaged over starts. Below 1 in the lower row: '
            'the forecast is too smooth at that scale; above 1: too rough. A degree l '
            'is a half wavelength of about 20,000 km / l.',
        )
        parts.append(Part('picture', picture))
    return parts


def training_section(losses: pd.DataFrame, timestep_hours: float | None) -> Section:
    """Losses by update.

    Args:
      losses: columns update, name, value.
      timestep_hours: length of a model step, to name lead times; or none.
    """
    if not losses.name.str.contains(r'^(?:validation_)?loss_step_\d+$').any():
        part = notice('The log of the training holds no losses.')
    else:
        picture = Picture(
            to_image(draw_training(losses, timestep_hours), 'svg'),
            'Training and validation loss by update',
            'Squared error of the normalised tendency, weighted by area, level and '
            'variable, at each lead time of the rollout. Lines: training batches; '
            'dots: validation period with averaged weights.',
        )
        part = Part('picture', picture)
    return Section('training', 'Training', [part])


def utc(time: np.datetime64) -> str:
    """Returns e.g. `2020-01-02 06 UTC`; minutes where they are not zero."""
    date, clock = str(time.astype('datetime64[m]')).split('T')
    hour, minute = clock.split(':')
    return f'{date} {hour if minute == "00" else clock} UTC'


def _has_spectrum(headline: Headline, spectra: xr.Dataset) -> bool:
    if headline.scored not in spectra.variable or headline.level not in spectra.level:
        return False
    chosen = spectra.sel(variable=headline.scored, level=headline.level)
    return bool(np.isfinite(chosen.forecast).all() and np.isfinite(chosen.truth).all())


def _spectrum(headline: Headline, spectra: xr.Dataset) -> Spectrum:
    chosen = spectra.sel(variable=headline.scored, level=headline.level)
    display = headline.in_spectra
    return Spectrum(
        headline.name,
        display.unit,
        chosen.degree.values,
        chosen.lead_time.values / _HOUR,
        chosen.forecast.values * display.scale,
        chosen.truth.values * display.scale,
    )


def _maps(
    headline: Headline,
    globe: Globe,
    forecasts: xr.Dataset,
    truth: xr.Dataset | None,
    start: int,
    leads: list[int],
) -> Part:
    """The figure of one field, or a notice why there is none."""
    missing = headline.missing_from(forecasts, 'forecast')
    if truth is not None:
        missing = missing or headline.missing_from(truth, 'truth')
    if missing:
        return notice(f'{headline.name} is not shown: {missing}.')
    rows = [_row(headline, forecasts, truth, start, lead) for lead in leads]
    fields = [field for row in rows for field in (row.forecast, row.truth) if field]
    if not all(np.isfinite(headline.on_map(field)).any() for field in fields):
        return notice(
            f'{headline.name} is not shown: it is missing (NaN) in the forecast or in '
            'the truth.'
        )
    what = 'forecast, truth and error' if truth is not None else 'forecast'
    picture = Picture(
        to_image(draw_maps(headline, globe, rows), 'png'),
        f'Maps of {what}: {headline.map_words}',
    )
    return Part('picture', picture)


def _row(
    headline: Headline,
    forecasts: xr.Dataset,
    truth: xr.Dataset | None,
    start: int,
    lead: int,
) -> MapRow:
    lead_time = forecasts.prediction_timedelta.values[lead]
    valid_time = forecasts.time.values[start] + lead_time
    observed = None
    if truth is not None:
        (position,) = truth.indexes['time'].get_indexer(pd.Index([valid_time]))
        observed = headline.select(truth, time=int(position))
    return MapRow(
        f'+{lead_time / _HOUR:g} h',
        utc(valid_time),
        headline.select(forecasts, time=start, prediction_timedelta=lead),
        observed,
    )


def _land(truth: xr.Dataset) -> np.ndarray | None:
    """Land fraction `[lat, lon]`, if the truth has it."""
    if 'land_sea_mask' not in truth:
        return None
    mask = truth.land_sea_mask
    extra = [dim for dim in mask.dims if dim not in ('latitude', 'longitude')]
    # Some stores repeat it for every time.
    mask = mask.isel({dim: 0 for dim in extra}).compute()
    return mask.transpose('latitude', 'longitude').values
