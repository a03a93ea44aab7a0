"""Operations are counted as often as they are done."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learning.flops import Flops, count_flops, peak_tflops

A, B = jnp.zeros((3, 4)), jnp.zeros((4, 5))
PRODUCT = 2 * 3 * 4 * 5


def test_a_product_is_a_multiplication_and_an_addition_for_each_term():
    assert count_flops(jnp.matmul, A, B) == Flops(matmul=PRODUCT)


def test_shapes_are_enough():
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (A, B)]
    assert count_flops(jnp.matmul, *shapes).matmul == PRODUCT


def test_a_batch_is_as_many_products():
    batched = jax.vmap(jnp.matmul, in_axes=(0, None))
    assert count_flops(batched, jnp.zeros((7, 3, 4)), B).matmul == 7 * PRODUCT


def test_a_product_of_complex_numbers_is_four():
    count = count_flops(jnp.matmul, A.astype(np.complex64), B.astype(np.complex64))
    assert count.matmul == 4 * PRODUCT


def test_a_loop_counts_as_often_as_it_runs():
    def loop(x):
        return jax.lax.scan(lambda x, _: (x @ x, None), x, length=6)[0]

    assert count_flops(loop, jnp.zeros((3, 3))).matmul == 6 * 2 * 27


def test_a_compiled_function_counts_once():
    assert count_flops(jax.jit(jnp.matmul), A, B).matmul == PRODUCT


def test_a_gradient_by_both_factors_is_three_products():
    def loss(a, b):
        return (a @ b).sum()

    # The value is not asked for, but computed.
    count = count_flops(jax.value_and_grad(loss, argnums=(0, 1)), A, B)
    assert count.matmul == 3 * PRODUCT


def test_what_is_computed_anew_counts_twice():
    def layer(w, x):
        return jnp.sin(w @ x)

    def loss(function):
        return lambda w, x: function(w, function(w, x)).sum()

    square = jnp.zeros((4, 4))
    kept = count_flops(jax.value_and_grad(loss(layer)), square, square).matmul
    anew = count_flops(
        jax.value_and_grad(loss(jax.checkpoint(layer))), square, square
    ).matmul
    # Two layers forward, once more.
    assert anew == kept + 2 * 2 * 4**3


def test_a_fourier_transform_is_five_n_log_n():
    count = count_flops(jnp.fft.fft, jnp.zeros((7, 8), np.complex64))
    assert count.fourier == 7 * 5 * 8 * 3


def test_that_of_real_numbers_is_half():
    assert count_flops(jnp.fft.rfft, jnp.zeros((7, 8))).fourier == 7 * 5 * 8 * 3 / 2
    half = jnp.zeros((7, 5), np.complex64)
    assert count_flops(jnp.fft.irfft, half).fourier == 7 * 5 * 8 * 3 / 2


def test_moving_numbers_is_no_operation():
    count = count_flops(lambda a: jnp.concatenate([a.T, a.T])[::2].reshape(-1), A)
    assert count.total == 0


def test_a_reduction_reads_what_it_adds():
    assert count_flops(jnp.sum, A).other == A.size


def test_a_convolution_is_a_product_for_every_place_of_the_kernel():
    x, kernel = jnp.zeros((1, 2, 10)), jnp.zeros((3, 2, 4))

    def convolve(x, kernel):
        return jax.lax.conv(x, kernel, (1,), 'VALID')

    assert count_flops(convolve, x, kernel).matmul == 2 * (3 * 7) * (2 * 4)


def test_the_dearer_branch_counts():
    def either(flag, a, b):
        return jax.lax.cond(flag, lambda: a @ b, lambda: jnp.zeros((3, 5)))

    assert count_flops(either, True, A, B).matmul == PRODUCT


def test_a_loop_of_unknown_length_is_refused():
    def loop(x):
        return jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: x + 1, x)

    with pytest.raises(ValueError, match='loops of known length'):
        count_flops(loop, A)


def test_an_ordinary_layer_counts_as_xla_counts_it():
    # Without loops XLA's own count has an answer of its own.
    def layer(a, b):
        return jnp.maximum(a @ b, 0)

    compiled = jax.jit(layer).lower(A, B).compile().cost_analysis()
    assert count_flops(layer, A, B).total == pytest.approx(compiled['flops'], rel=0.2)


def test_the_peak_is_that_of_the_device_and_none_of_one_that_is_not_known():
    assert peak_tflops('TPU v5 lite') == 197.0
    assert peak_tflops('TPU v5p') == 459.0
    assert peak_tflops('NVIDIA H100 80GB HBM3') == 989.0
    assert peak_tflops('cpu') is None
