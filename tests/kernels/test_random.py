"""The generator of discrete kernels: published vectors, and streams that never meet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic._random import bernoulli_logits, fold, split, threefry, uniform

# Known answers of Random123 for threefry2x32, 20 rounds: counter, key, result.
VECTORS = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize("counter, key, result", VECTORS)
def test_published_vectors(counter, key, result):
    words = [jnp.asarray(word, jnp.uint32) for word in counter]
    found = jax.jit(threefry)(jnp.asarray(key, jnp.uint32), *words)
    assert tuple(int(word) for word in found) == result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 7, 200_000])
def test_uniform_variates(dtype, n, key):
    u = np.asarray(jax.jit(uniform, static_argnums=(1, 2))(key, (n,), jnp.dtype(dtype)))
    assert u.shape == (n,) and u.dtype == dtype
    assert u.min() > 0 and u.max() < 1
    if n > 1000:
        assert abs(u.mean(dtype=np.float64) - 0.5) < 5 / np.sqrt(12 * n)
        counts = np.histogram(u, 64, (0, 1))[0]
        chi2 = ((counts - n / 64) ** 2).sum() / (n / 64)
        assert abs(chi2 - 63) < 5 * np.sqrt(2 * 63)
        half = n // 2  # the two words of a block
        assert abs(np.corrcoef(u[:half], u[half:])[0, 1]) < 5 / np.sqrt(half)
        assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 5 / np.sqrt(n)


def test_shape_does_not_matter(key):
    flat = uniform(key, (6,), jnp.dtype(np.float32))
    np.testing.assert_array_equal(uniform(key, (2, 3), jnp.dtype(np.float32)).ravel(), flat)


def test_bernoulli_frequencies(key):
    logits, n = jnp.array([-4.0, -0.3, 0.0, 1.2, 6.0, -jnp.inf, jnp.inf]), 200_000
    x = np.asarray(jax.vmap(bernoulli_logits, (0, None))(split(key, n), logits))
    p = np.asarray(jax.nn.sigmoid(logits))
    assert np.isin(x, (0.0, 1.0)).all()
    assert np.all(np.abs(x.mean(0) - p) <= 5 * np.sqrt(p * (1 - p) / n))


def test_keys_and_variates_never_share_a_counter(key):
    """Folded, split and nested keys all differ, and none of them is a variate of its parent."""
    families = [
        np.asarray(jax.vmap(lambda i: jax.random.key_data(fold(key, i)))(jnp.arange(3000))),
        np.asarray(jax.random.key_data(split(key, 3000))),
        np.asarray(jax.random.key_data(split(fold(key, 5), 3000))),
        np.stack(
            threefry(jax.random.key_data(key), jnp.arange(3000, dtype=jnp.uint32), jnp.zeros(3000, jnp.uint32)), -1
        ),
    ]
    words = np.concatenate(families)
    assert len(np.unique(words, axis=0)) == len(words)


def test_any_key_will_do(key):
    """Raw keys of two words give the variates of the typed key; results repeat."""
    raw = jax.random.key_data(key)
    np.testing.assert_array_equal(uniform(raw, (5,), jnp.dtype(np.float32)), uniform(key, (5,), jnp.dtype(np.float32)))
    assert not np.array_equal(
        uniform(key, (5,), jnp.dtype(np.float32)), uniform(fold(key, 0), (5,), jnp.dtype(np.float32))
    )
