import functools
import sys
import time
import types

import numpy as np
import pytest

from benchmarks.peers import measures


def test_round_trip_errors_of_real_coefficients():
    before = np.array([0.0, 1.0, -4.0], np.float32)
    after = before + np.array([0.0, 0.5, -0.25], np.float32)
    errors = measures.round_trip(before, after)
    assert errors['max_abs'] == 0.5 and errors['max_relative'] == 0.125
    assert errors['rms'] == pytest.approx(np.sqrt((0.5**2 + 0.25**2) / 2))
    assert errors['coefficients'] == 2


def test_round_trip_errors_of_complex_coefficients_are_those_of_their_parts():
    before = np.array([[1 + 2j, 3 + 0j]], np.complex64)
    errors = measures.round_trip(before, before + 1j * np.array([0, 0.5]))
    assert errors['max_abs'] == 0.5 and errors['coefficients'] == 3


def test_a_value_where_there_should_be_none_is_an_error():
    before = np.array([0.0, 1.0], np.float32)
    assert measures.round_trip(before, np.ones(2, np.float32))['max_abs'] == 1


@pytest.mark.parametrize('spin', [0, 1])
def test_coefficients_of_real_fields(spin):
    values = measures.real_field_coefficients(500, max_degree=3, spin=spin)
    assert values.shape == (500, 4, 4) and values.dtype == np.complex64
    degree, order = np.mgrid[:4, :4]
    exists = (degree >= order) & (degree >= spin)
    assert (values[:, ~exists] == 0).all()
    assert (values[..., 0].imag == 0).all()
    assert np.std(values[:, 2, 1].imag) == pytest.approx(1, rel=0.1)


def test_caches_of_a_package_are_forgotten_and_no_others():
    calls = []
    names = ('package_a.tables', 'package_b.tables')
    for name in names:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].table = functools.cache(calls.append)
    try:
        for name in names:
            sys.modules[name].table(name)
        measures.forget_caches('package_a')
        for name in names:
            sys.modules[name].table(name)
    finally:
        for name in names:
            del sys.modules[name]
    assert calls == ['package_a.tables', 'package_b.tables', 'package_a.tables']


def test_a_cache_inside_a_wrapper_is_forgotten_too():
    calls, module = [], types.ModuleType('package_c')
    cached = functools.cache(calls.append)
    module.table = lambda key: cached(key)
    sys.modules['package_c'] = module
    try:
        module.table('a')
        measures.forget_caches('package_c')
        module.table('a')
    finally:
        del sys.modules['package_c']
    assert calls == ['a', 'a']


def test_timed_returns_what_the_function_does_and_how_long_it_took():
    value, seconds = measures.timed(lambda: time.sleep(0.01) or 3)
    assert value == 3 and seconds >= 0.01
