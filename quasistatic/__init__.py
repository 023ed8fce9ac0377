"""Training an energy-based model is a thermodynamic process: measure it and control it."""

__version__ = "0.1.0"
