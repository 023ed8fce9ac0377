"""Runs every benchmark: `python -m benchmarks` (or `make bench`)."""

import runpy

NAMES = ("rbm_update", "natural_gradient", "convnet_langevin", "random_bits")

if __name__ == "__main__":
    for name in NAMES:
        print(f"== {name}")
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
