"""The forms of a convolution are one function."""

import jax
import numpy as np
import pytest

from agent.dreamerv3 import convolution as c

FORMS = {
    "pooled": (c.fours_by_squares, c.fours_by_primitive),
    "doubled": (c.doubled_by_squares, c.doubled_by_primitive),
}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("side", c.KERNELS)
@pytest.mark.parametrize("forms", FORMS.values(), ids=FORMS)
def test_squares_of_four_give_what_the_primitive_gives_with_all_gradients(forms, side):
    x, kernel = normal(6, 4, 8, 3), normal(side, side, 3, 5)
    (squares, pull), (primitive, pull_primitive) = (jax.vjp(form, x, kernel) for form in forms)
    np.testing.assert_allclose(squares, primitive, rtol=1e-4, atol=1e-4)
    gradient = normal(*primitive.shape)
    for found, expected in zip(pull(gradient), pull_primitive(gradient), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_the_gradient_of_a_kernel_does_not_depend_on_the_pieces(monkeypatch):
    x, gradient = normal(4, 8, 8, 2), normal(4, 8, 8, 3)
    whole = c._kernel_gradient(x, gradient)
    monkeypatch.setattr(c, "PIECE", 64)
    np.testing.assert_allclose(c._kernel_gradient(x, gradient), whole, rtol=1e-4, atol=1e-4)


def test_a_pooled_result_is_the_largest_of_each_square_of_four():
    x, kernel, bias = normal(2, 8, 8, 3), normal(5, 5, 3, 4), normal(4)
    whole = np.asarray(c._primitive(x, kernel)) + bias
    expected = whole.reshape(2, 4, 2, 4, 2, 4).max((2, 4))
    np.testing.assert_allclose(c.conv_pooled(x, kernel, bias), expected, rtol=1e-4, atol=1e-4)


def test_a_kernel_that_reaches_further_than_a_square_is_refused():
    with pytest.raises(ValueError, match="7 pixels wide"):
        c.conv_pooled(normal(1, 4, 4, 1), normal(7, 7, 1, 1), normal(1))
