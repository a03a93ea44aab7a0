"""Prepared stores: any atmosphere, regridded and laid out for training, in one run."""
