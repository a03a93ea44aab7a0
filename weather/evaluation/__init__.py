"""Scores, spectra and the report, for any forecasts in WeatherBench 2 schema."""
