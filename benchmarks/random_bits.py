"""Uniform variates for one layer of an RBM batch (500 x 784): the fused generator beside `jax.random.uniform`.

Both are Threefry-2x32 with 20 rounds. Correctness first: the known-answer vectors of its authors, and mean and
variance within 5 standard errors.

    python benchmarks/random_bits.py
"""

import statistics
import time

import jax
import jax.numpy as jnp

from quasistatic._random import threefry, uniform

SHAPE = (500, 784)
# counter, key, expected words: Random123's test vectors for threefry2x32, 20 rounds
KNOWN = (
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
)


def main() -> None:
    for counter, key, expected in KNOWN:
        words = threefry(jnp.asarray(key, jnp.uint32), *(jnp.asarray(c, jnp.uint32) for c in counter))
        assert tuple(int(w) for w in words) == expected, (words, expected)
    ours = jax.jit(lambda key: uniform(key, SHAPE, jnp.float32))
    theirs = jax.jit(lambda key: jax.random.uniform(key, SHAPE))
    key = jax.random.key(0)
    x, n = ours(key), SHAPE[0] * SHAPE[1]
    assert abs(float(x.mean()) - 0.5) < 5 * (1 / 12 / n) ** 0.5
    assert abs(float(x.var()) - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    jax.block_until_ready(theirs(key))
    rounds: dict[str, list[float]] = {"fused": [], "jax.random": []}
    for i in range(30):
        for name, draw in (("fused", ours), ("jax.random", theirs)):
            started = time.perf_counter()
            jax.block_until_ready(draw(jax.random.fold_in(key, i)))
            rounds[name].append((time.perf_counter() - started) * 1e3)
    for name, times in rounds.items():
        print(f"{name:12s} {statistics.median(times):6.2f} ms  [{min(times):.2f}, {max(times):.2f}]")
    print(f"ratio {statistics.median(rounds['jax.random']) / statistics.median(rounds['fused']):.2f}")


if __name__ == "__main__":
    main()
