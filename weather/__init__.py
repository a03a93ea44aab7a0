"""Weather forecasting on the sphere: data, model, training, forecasts, scores."""
