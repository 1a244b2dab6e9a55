"""Both lowerings of a convolution are one function, and that function is the convolution."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenizer.convolution import by_matmuls, by_primitive, conv3x3


def _example(side=6, inputs=3, outputs=5):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, side, side, inputs))
    kernel = jax.random.normal(keys[1], (3, 3, inputs, outputs))
    return x, kernel, jax.random.normal(keys[2], (outputs,))


@pytest.mark.parametrize("stride", [1, 2])
def test_both_lowerings_agree_in_values_and_gradients(stride):
    x, kernel, _ = _example()

    def value_and_gradients(lowering):
        return jax.value_and_grad(lambda x, kernel: jnp.sin(lowering(stride, x, kernel)).sum(), argnums=(0, 1))(
            x, kernel
        )

    chex.assert_trees_all_close(by_primitive(stride, x, kernel), by_matmuls(stride, x, kernel), rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(
        value_and_gradients(by_primitive), value_and_gradients(by_matmuls), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradient_is_that_of_the_lowering(stride):
    x, kernel, bias = _example()
    ours = jax.grad(lambda *args: jnp.sin(conv3x3(*args, stride)).sum(), argnums=(0, 1, 2))
    plain = jax.grad(lambda x, kernel, bias: jnp.sin(by_matmuls(stride, x, kernel) + bias).sum(), argnums=(0, 1, 2))
    chex.assert_trees_all_close(ours(x, kernel, bias), plain(x, kernel, bias), rtol=1e-4, atol=1e-4)


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
