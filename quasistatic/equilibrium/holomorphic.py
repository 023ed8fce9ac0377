"""Holomorphic nudges: the supervised gradient from complex nudges on a circle, by reweighting free samples.

    grad L ~ 1 / (N r) sum_k exp(-2 pi i k / N) <g>_{b_k} ,   b_k = r exp(2 pi i k / N) ,   L = <C>_0 .

`<g>_b` is meromorphic in `b` with poles at the zeros of `Z_b`; with `z` the one nearest to the origin the error is of
order `(r / |z|)^N`, and at `r >= |z|` the rule does not converge. Two points are the centred rule, one point is not
enough: it has the first-order error of the one-sided rule.

Reference:
    Laborieux and Zenke 2022 (arXiv 2209.00530), for deterministic states; thermal means here.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from quasistatic._types import ScalarLike
from quasistatic.equilibrium.phases import Phase, Terms
from quasistatic.errors import InputError


def holomorphic(free: Phase, radius: ScalarLike, n_points: int, temperature: ScalarLike) -> Terms:
    """Terms of `grad <C>_0` of one example from `n_points` complex nudges on a circle.

    Args:
        free: free samples, or a table.
        radius: `r`, below the distance of the nearest zero of `Z_b`.
        n_points: `N`; 2 is the centred rule.
        temperature: `T`.
    """
    if n_points < 1:
        raise InputError(f"a circle of nudges needs at least one point, got {n_points}")
    # a common factor cancels in the normalised weights; centring keeps the exponentials small
    centred = free.cost - free.mean(free.cost)
    roots = jnp.exp(2j * jnp.pi * jnp.arange(n_points) / n_points)

    def weights(root: Complex[Array, ""]) -> Complex[Array, " n"]:
        w = free.weight * jnp.exp(-radius * root * centred / temperature)
        return w / jnp.sum(w)

    all_weights = jax.vmap(weights)(roots)
    on_energy = jnp.real(jnp.mean(jnp.conj(roots)[:, None] * all_weights, axis=0)) / radius
    return Terms(free.x, on_energy, jnp.real(jnp.mean(all_weights, axis=0)))


def fisher_radius(free: Phase, temperature: ScalarLike, levels: Float[Array, " k"]) -> float:
    """Distance of the zero of `Z_b` nearest to `b = 0`, for a cost with equally spaced levels.

    With `C = c_0 + j h`, `Z_b / Z_0` is a polynomial in `exp(-b h / T)`; outside this radius the holomorphic rule does
    not converge.

    Args:
        free: table of all states.
        temperature: `T`.
        levels: values of the cost, equally spaced, in order.
    """
    values = np.asarray(levels, float)
    cost, weight = np.asarray(free.cost, float), np.asarray(free.weight, float)
    spacing = values[1] - values[0]
    probabilities = [weight[np.isclose(cost, level)].sum() for level in values]
    roots = np.roots(probabilities[::-1])
    return float(np.abs(-float(temperature) / spacing * np.log(roots.astype(complex))).min())
