"""Forecasts from a trained run, and the files they are written to."""
