"""Scores and spectra, for any forecasts in WeatherBench 2 schema."""
