"""Starting a training elsewhere: on TPU slices, in Kubernetes, on SLURM clusters.

It knows of a training only that `scripts/train.py` starts it and goes on where it
stopped when it is started again; that it ends with 0 when nothing is left to do,
with 128 and a signal's number when a signal stopped it and all is saved, with 75 when
another process did not come or was lost, and with anything else for an error.
"""
