import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import programs

ROUND_OFF = {'rtol': 1e-5}  # float32.


def test_value_and_gradient_of_a_layer():
    measured = programs.forward_and_gradient(
        lambda parameters, inputs, constants: parameters * inputs + constants,
        jnp.float32(2),
        jnp.ones(3, jnp.complex64),
        jnp.ones(3),
    )
    np.testing.assert_allclose(measured.operations['forward'](), 3, **ROUND_OFF)
    value, (by_parameter, by_input) = measured.operations['value_and_grad']()
    # The loss is Re(sum(w y)): its change with each input is 2 w, with the parameter
    # Re(sum(w)), a third of its value.
    np.testing.assert_allclose(value, by_input.sum().real * 1.5, **ROUND_OFF)
    np.testing.assert_allclose(by_parameter, value / 3, **ROUND_OFF)
    assert measured.facts['num_parameters'] == 1
    assert measured.facts['program_gib']['value_and_grad'] > 0


def test_a_program_needs_its_arguments_and_its_results():
    increment = jax.jit(lambda x: x + 1)
    program = programs.compile_program(increment, jnp.ones(2**20)).program
    assert programs.program_gib(program) == pytest.approx(2 * 2**22 / 2**30, rel=1e-3)
    donated = jax.jit(lambda x: x + 1, donate_argnums=0)
    program = programs.compile_program(donated, jnp.ones(2**20)).program
    assert programs.program_gib(program) == pytest.approx(2**22 / 2**30, rel=1e-3)


def test_the_memory_of_a_process_is_at_most_what_its_family_had():
    # Linux begins a child's `ru_maxrss` at what its parent occupied.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert 0.01 < programs.process_gib() < 1.01 * most


def test_a_program_too_large_for_the_machine_is_refused(monkeypatch):
    increment = jax.jit(lambda x: x + 1)
    program = programs.compile_program(increment, jnp.ones(2**20)).program
    programs.require_memory(program)
    monkeypatch.setattr(programs, 'available_gib', lambda: 0.001)
    with pytest.raises(MemoryError, match='only 0.0 GiB are available'):
        programs.require_memory(program)
