"""Benchmarks: spherecast beside other libraries, in one run on one machine.

`python -m benchmarks.transforms` times the spherical-harmonic transforms,
`python -m benchmarks.model` the layers and the flagship; `--help` lists the flags,
`--write` puts the result into benchmarks/RESULTS.md. The libraries compared with are
those of `pip install -e '.[benchmarks]'`; one that is missing is reported and left out.

How it is measured: every library runs in a process of its own (`workers`), which
sleeps while it is not asked; the parent lets them take turns, A B A B, round after
round (`harness`), so that a machine that slows down slows all of them; figures are
medians over rounds, ratios are medians of the ratios within a round (`timing`). The
flagship has no peer: each of its measurements has a process of its own. The speed of
the machine itself, matrix products and copies, is measured between the cases
(`machine`). `results` writes JSON and the tables.
"""
