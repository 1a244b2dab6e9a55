"""Every way to compute a convolution is the convolution."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenizer.convolution import (
    by_primitive,
    by_rows,
    by_winograd,
    conv3x3,
    conv3x3_of_doubled,
    conv3x3_unpadded,
    differentiated_on_cpu,
    doubled,
    doubled_by_phases,
    on_cpu,
)


def _example(side=6, inputs=3, outputs=5):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, side, side, inputs))
    kernel = jax.random.normal(keys[1], (3, 3, inputs, outputs))
    return x, kernel, jax.random.normal(keys[2], (outputs,))


def _gradients(function, *arguments):
    return jax.grad(lambda *args: jnp.sin(function(*args)).sum(), argnums=(0, 1, 2))(*arguments)


def _plain(x, kernel, bias, stride=1, padding=None):
    return by_primitive(stride, padding or {1: (1, 1), 2: (0, 1)}[stride], x, kernel) + bias


def test_fewer_multiplications_are_the_same_convolution():
    x, kernel, bias = _example()
    chex.assert_trees_all_close(by_winograd(x, kernel) + bias, _plain(x, kernel, bias), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (0, 1)])
@pytest.mark.parametrize(("stride", "side"), [(1, 7), (2, 7), (2, 8)])
def test_matmuls_of_neighbours_are_the_same_convolution(stride, side, padding):
    x, kernel, bias = _example(side)
    expected = _plain(x, kernel, bias, stride, padding)
    chex.assert_trees_all_close(by_rows(stride, padding, x, kernel) + bias, expected, rtol=1e-4, atol=1e-5)


def test_many_channels_on_small_maps_take_the_way_of_fewer_multiplications_and_others_do_not():
    wide, narrow = (_example(side=16, inputs=width, outputs=width)[:2] for width in (256, 8))
    primitive = by_primitive(1, (1, 1), *wide)
    assert np.array_equal(on_cpu(1, (1, 1), *wide), by_winograd(*wide))
    assert not np.array_equal(by_winograd(*wide), primitive)
    assert np.array_equal(on_cpu(1, (1, 1), *narrow), by_primitive(1, (1, 1), *narrow))
    assert np.array_equal(on_cpu(2, (0, 1), *wide), by_primitive(2, (0, 1), *wide))


def test_gradients_on_many_pixels_are_those_of_matmuls():
    def forms(x, kernel):
        return [str(jax.make_jaxpr(lambda *args: differentiated_on_cpu(1, (1, 1), *args))(x, kernel)).count(name)
                for name in ("conv_general_dilated", "dot_general")]  # fmt: skip

    few, many = _example(side=8)[:2], _example(side=48)[:2]
    assert forms(*few) == [1, 0]
    assert forms(*many) == [0, 1]


def test_a_convolution_of_a_doubled_map_is_what_it_says():
    x, kernel, bias = _example(side=5)
    assert doubled(x).shape == (2, 10, 10, 3)
    expected = _plain(doubled(x), kernel, bias)
    chex.assert_trees_all_close(doubled_by_phases(x, kernel) + bias, expected, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(conv3x3_of_doubled(x, kernel, bias), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [6, 46])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradient_is_that_of_the_plain_convolution(stride, side):
    arguments = _example(side)
    ours = _gradients(lambda *args: conv3x3(*args, stride), *arguments)
    plain = _gradients(lambda *args: _plain(*args, stride), *arguments)
    chex.assert_trees_all_close(ours, plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("side", [7, 47])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradient_without_padding_is_that_of_the_plain_convolution(stride, side):
    arguments = _example(side)
    ours = _gradients(lambda *args: conv3x3_unpadded(*args, stride), *arguments)
    plain = _gradients(lambda *args: _plain(*args, stride, (0, 0)), *arguments)
    chex.assert_trees_all_close(ours, plain, rtol=1e-3, atol=1e-3)


def test_the_gradient_of_a_doubled_map_is_that_of_the_plain_convolution():
    arguments = _example()
    plain = _gradients(lambda x, *rest: _plain(doubled(x), *rest), *arguments)
    chex.assert_trees_all_close(_gradients(conv3x3_of_doubled, *arguments), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride, first", [(1, -1), (2, 0)])
def test_each_pixel_sees_its_nine_neighbours_and_stride_two_pads_right_and_bottom_only(stride, first):
    x, kernel, bias = _example(side=4)
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.asarray(conv3x3(x, kernel, bias, stride))
    assert out.shape == (2, 4 // stride, 4 // stride, 5)
    for row in range(4 // stride):
        for column in range(4 // stride):
            top, left = stride * row + first + 1, stride * column + first + 1
            window = padded[:, top : top + 3, left : left + 3]
            expected = np.einsum("bijc,ijco->bo", window, np.asarray(kernel)) + np.asarray(bias)
            np.testing.assert_allclose(out[:, row, column], expected, rtol=1e-4, atol=1e-4)


def test_stride_two_refuses_odd_sides():
    x, kernel, bias = _example(side=5)
    with pytest.raises(ValueError, match="even sides"):
        conv3x3(x, kernel, bias, 2)
