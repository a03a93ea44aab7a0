"""Several processes of a command on this machine, as a cluster would start them."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Seconds after which a process that hangs is given up.
PATIENCE = 300


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(('localhost', 0)) as server:
        return server.getsockname()[1]


def start(count, *arguments, which=None, flags=True, devices=1):
    """Starts processes of a Python command; each prints into a pipe of its own."""
    port = free_port()
    environment = {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
    }

    def place(index):
        names = ('coordinator', 'num_processes', 'process')
        values = (f'localhost:{port}', count, index)
        if flags:
            pairs = zip(names, values, strict=True)
            return [f'--{name}={value}' for name, value in pairs]
        return [str(value) for value in values]

    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments), *place(index)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in (range(count) if which is None else which)
    ]


def outputs(processes):
    """What they have printed, once all have ended."""
    try:
        return [process.communicate(timeout=PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


@contextlib.contextmanager
def listener():
    """A port at which somebody listens who says nothing."""
    with socket.create_server(('localhost', 0)) as server:
        yield server.getsockname()[1]
