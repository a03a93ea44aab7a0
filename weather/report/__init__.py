"""The report of forecasts: one static page that a forecaster can look at."""
