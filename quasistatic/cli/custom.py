"""Energies written by users: found by `module:attr`, checked on real samples before anything is trained.

The attribute may be an `AbstractEnergy` or any other Equinox module, a function of one sample, or a factory
that takes `key` and returns one of these. The samples it sees are flat vectors.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from quasistatic._types import Key, Sample, Scalar, ScalarLike
from quasistatic.cli.toml import nearest
from quasistatic.energies import (
    AbstractEnergy,
    AbstractTractable,
    Gaussian,
    IndependentUnits,
    UniformBox,
    as_energy,
    starts,
    units,
)
from quasistatic.errors import InputError

N_PROBED = 64  # samples on which a new energy is tried


class Boxed(AbstractEnergy):
    """Energy inside a box, infinite outside: the target that a uniform base anchors.

    Args:
        energy: the energy inside.
        box: the base; its corners receive no gradient.
    """

    energy: AbstractEnergy
    box: UniformBox

    def reduced(self, x: Sample, beta: ScalarLike, context: Any = None) -> Scalar:
        is_inside = jnp.isfinite(self.box(x))
        return jnp.where(is_inside, self.energy.reduced(x, beta, context), jnp.inf)

    def __call__(self, x: Sample) -> Scalar:
        return self.reduced(x, 1.0)

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        self.energy.validate(x, name=name)
        if not ((x >= np.asarray(self.box.low)) & (x <= np.asarray(self.box.high))).all():
            raise InputError(f"{name} lies outside the box of the uniform base; raise model.base_scale")


def load_energy(path: str, key: Key, *, levels: tuple[float, ...] | None = None) -> AbstractEnergy:
    """Energy at `module:attr`; the working directory is searched for the module, during this import only.

    Args:
        path: dotted module and attribute.
        key: random key given to a factory.
        levels: states of two-state samples, None for continuous ones.

    Raises:
        InputError: the module cannot be imported, has no such attribute, or the attribute is no energy.
    """
    name, _, attribute = path.partition(":")
    with _working_directory_first():
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise InputError(
                f"--energy {path}: no module called {error.name!r} here or among the installed ones"
            ) from None
        except (Exception, SystemExit) as error:
            raise InputError(f"--energy {path}: importing {name} fails with {_flat(error)}") from None
    if not hasattr(module, attribute):
        public = [word for word in vars(module) if not word.startswith("_")]
        hint = nearest(attribute, public)
        also = f"; did you mean {hint}?" if hint else ""
        raise InputError(f"--energy {path}: module {name} has no {attribute!r}{also}")
    found = getattr(module, attribute)
    if _is_factory(found):
        try:
            found = found(key=key)
        except Exception as error:
            raise InputError(f"--energy {path}: the factory fails with {_flat(error)}") from None
    if inspect.isclass(found):
        raise InputError(f"--energy {path} is a class; name an instance, or a function of `key` that makes one")
    if not callable(found):
        raise InputError(f"--energy {path} is a {type(found).__name__}; an energy is callable on one sample")
    arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, found)
    return as_energy(arrays, levels=levels)


def check_energy(energy: AbstractEnergy, x: Float[np.ndarray, "n d"], *, path: str) -> None:
    """Tries an energy on a few samples.

    Args:
        energy: what was loaded.
        x: samples.
        path: how the user named it, for messages.

    Raises:
        InputError: it fails, returns no scalar, or a number or gradient that is not finite.
    """
    some = jnp.asarray(x[:N_PROBED], float)
    try:
        shape = jax.eval_shape(energy, some[0])
        if getattr(shape, "shape", None) != () or not jnp.issubdtype(shape.dtype, jnp.floating):
            what = f"shape {shape.shape} and type {shape.dtype}" if hasattr(shape, "shape") else type(shape).__name__
            raise InputError(
                f"--energy {path} must map one sample to a real scalar, but returns {what} for a sample of "
                f"shape {some[0].shape}"
            )
        values, slopes = jax.vmap(jax.value_and_grad(energy))(some)
    except InputError as error:
        raise InputError(f"--energy {path}: {error}" if path not in str(error) else str(error)) from None
    except Exception as error:
        raise InputError(f"--energy {path} fails on a sample of shape {some[0].shape}: {_flat(error)}") from None
    is_finite = jnp.isfinite(values) & jnp.all(jnp.isfinite(slopes), axis=tuple(range(1, slopes.ndim)))
    if not bool(jnp.all(is_finite)):
        row = int(jnp.argmin(is_finite))
        raise InputError(f"--energy {path} is not finite, or has no finite gradient, at row {row} of the data")


def base_law(
    kind: str,
    scale: float,
    x: Float[np.ndarray, "n d"],
    *,
    units_name: str | None,
    box: tuple[float, float] | None = None,
) -> AbstractTractable:
    """Law with known Z around the data, from which walkers start.

    Args:
        kind: `"gaussian"` (data mean, `scale` times the data's standard deviation), `"covariance"` (data mean,
            `scale` squared times the data's covariance), `"isotropic"` (data mean, `scale` times the root of the
            mean variance in every direction), `"uniform"` (a box
            `scale` times as wide as the data, or fair coins), `"frequencies"` (independent units with the
            data's means).
        scale: widening.
        x: training data.
        units_name: `"binary"` or `"spin"` for two-state samples.
        box: box that walkers are kept in, the same for all coordinates; `"uniform"` is then the law on it.

    Raises:
        InputError: data outside the box.
    """
    x = np.asarray(x, np.float64)
    if box is not None and not (x.min() >= box[0] and x.max() <= box[1]):
        raise InputError(
            f"data from {x.min():g} to {x.max():g} do not fit into the box from {box[0]:g} to {box[1]:g}; widen it"
        )
    if units_name is not None:
        unit = units(units_name, x.shape[1])
        levels = np.asarray(unit.levels)
        mean = (x.sum(0) + levels.sum()) / (len(x) + len(levels))
        fields = unit.field_of_mean(jnp.asarray(mean, float)) if kind == "frequencies" else jnp.zeros(x.shape[1])
        return IndependentUnits(fields, unit)
    middle, width = (x.max(0) + x.min(0)) / 2, x.max(0) - x.min(0)
    spread = np.maximum(x.std(0), 1e-3 * max(float(x.std()), 1e-6))  # a constant column still needs a width
    if kind == "uniform" and box is not None:
        return starts.box(*box, x.shape[1])
    if kind == "uniform":
        half = scale * np.maximum(width, spread) / 2
        return UniformBox(jnp.asarray(middle - half, float), jnp.asarray(middle + half, float))
    if kind == "covariance":
        # as far as there are fewer samples than coordinates, directions without spread get a little of the mean one
        covariance = np.atleast_2d(np.cov(x, rowvar=False)) + 1e-3 * np.mean(spread**2) * np.eye(x.shape[1])
        return Gaussian.from_covariance(jnp.asarray(x.mean(0), float), jnp.asarray(scale**2 * covariance, float))
    if kind == "isotropic":
        return starts.gaussian(x.mean(0), scale * float(np.sqrt(np.mean(spread**2))))
    return Gaussian(jnp.asarray(x.mean(0), float), jnp.asarray(np.diag(1 / (scale * spread)), float))


@contextlib.contextmanager
def _working_directory_first() -> Iterator[None]:
    here, writes_no_bytecode = os.getcwd(), sys.dont_write_bytecode
    sys.path.insert(0, here)
    sys.dont_write_bytecode = True  # reading a file must not leave a folder beside it
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_no_bytecode
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def _is_factory(found: Any) -> bool:
    if isinstance(found, eqx.Module):
        return False
    try:
        return "key" in inspect.signature(found).parameters
    except (TypeError, ValueError):
        return False


def _flat(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}{'...' if len(text) > 200 else ''}"
