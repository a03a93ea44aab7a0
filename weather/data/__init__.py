"""Atmospheres on disk and in batches: stores, statistics, forcings, loading."""
