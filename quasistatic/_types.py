"""Array types shared by every public signature.

Shapes are named with jaxtyping; these aliases only shorten the scalar cases that occur everywhere.
"""

from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

Key = PRNGKeyArray
Scalar = Float[Array, ""]
ScalarLike = float | int | Float[Array, ""] | np.floating
IntScalarLike = int | Int[Array, ""]
BoolScalar = Bool[Array, ""]
Sample = Any
"""One sample: an array of the energy's event shape (walkers are added by `jax.vmap`)."""
