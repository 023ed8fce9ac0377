"""Fisher matrix and friction tensor of one-dimensional energies `E = sum_i th_i f_i(x) + E_0(x)`, by quadrature.

    C_ij = Cov(f_i, f_j),     zeta_ij = (1/mu) int (dCDF/dth_i) (dCDF/dth_j) / p dx ,
    dCDF/dth_i = -b int_-inf^x (f_i - <f_i>) p

The friction tensor is the metric of optimal transport on the family: slow driving costs `int thdot' zeta thdot dt`.

Reference:
    D. Sivak, G. Crooks, Phys. Rev. Lett. 108, 190602 (2012); P. Zulkowski, M. DeWeese, Phys. Rev. E 92, 032117 (2015)
    for the integral in one dimension.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def line_metric(
    x: Float[Array, " n"],
    features: Float[Array, "p n"],
    energy: Float[Array, " n"],
    *,
    beta: float = 1.0,
    mobility: float = 1.0,
) -> tuple[Float[Array, "p p"], Float[Array, "p p"]]:
    """Covariance `C` and friction `zeta` of a law on a line.

    Args:
        x: equally spaced grid that covers the law.
        features: `f_i` on the grid.
        energy: `E` on the grid.
        beta: `b`.
        mobility: `mu`.

    Returns:
        `C` (the Fisher matrix is `b^2 C`) and `zeta` (energy times time; in nats per update of time `h`: `b zeta / h`).
    """
    spacing = x[1] - x[0]
    weight = jnp.exp(-beta * (energy - jnp.min(energy)))
    p = weight / jnp.sum(weight)
    centred = features - (features @ p)[:, None]
    covariance = (centred * p) @ centred.T
    # cumulated at the faces between grid points, where the density is the geometric mean of its neighbours
    # and summed from the nearer end: in float32 the far end would be rounding, divided by a small density
    terms = beta * centred * p
    from_left = jnp.cumsum(terms, axis=1)[:, :-1]
    from_right = -jnp.flip(jnp.cumsum(jnp.flip(terms, 1), axis=1), 1)[:, 1:]
    cumulated = jnp.where(jnp.cumsum(p)[:-1] < 0.5, from_left, from_right)
    face = jnp.sqrt(p[1:]) * jnp.sqrt(p[:-1]) / spacing
    is_carried = face > 1e-14
    share = jnp.where(is_carried, cumulated / jnp.where(is_carried, face, 1.0), 0.0)
    return covariance, spacing / mobility * share @ cumulated.T
