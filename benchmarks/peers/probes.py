"""The speed of the machine, as JAX sees it: a matrix product and a copy.

For the worker that transforms are compared with: `probe = probes.prepare`.
"""

import jax
import jax.numpy as jnp

from benchmarks.peers import Prepared

SGEMM_SIZE = 2048
COPY_BYTES = 64 * 2**20


def prepare() -> Prepared:
    """Operations `'sgemm'` and `'copy'`; facts: what one call of each does."""
    a = jnp.full((SGEMM_SIZE, SGEMM_SIZE), 0.5, jnp.float32)
    b = jnp.zeros(COPY_BYTES // 4, jnp.float32)
    multiply = jax.jit(jnp.matmul).lower(a, a).compile()
    increment = jax.jit(lambda x: x + 1).lower(b).compile()
    return Prepared(
        operations={
            'sgemm': lambda: multiply(a, a).block_until_ready(),
            'copy': lambda: increment(b).block_until_ready(),
        },
        # Read once and written once.
        facts={'sgemm_flops': 2 * SGEMM_SIZE**3, 'copy_bytes': 2 * COPY_BYTES},
    )
