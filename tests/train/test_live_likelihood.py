"""The live likelihood of `digits-rbm` is right, over seeds and ages (minutes: run by `make test-slow`)."""

import jax
import pytest

from quasistatic.reproduce.live_likelihood import check


@pytest.mark.slow
def test_every_row_of_the_comparison_holds():
    rows = check(jax.random.key(20261120))
    for row in rows:
        print(f"{row.quantity}: expected {row.expected}, measured {row.measured:.4f}")
    assert all(row.ok for row in rows)
