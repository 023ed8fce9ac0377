"""Benchmarks: peers side by side, correctness before any timing. Never imported by the package."""
