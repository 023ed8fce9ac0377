"""Training an energy-based model is a thermodynamic process: measure it and control it.

Public names are imported when first used: reading a version or printing a recipe must not wait for JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quasistatic._results import RESULTS as RESULTS
    from quasistatic._results import Estimate as Estimate
    from quasistatic.cli.load import load as load
    from quasistatic.energies import RBM as RBM
    from quasistatic.energies import AbstractEnergy as AbstractEnergy
    from quasistatic.energies import AbstractTractable as AbstractTractable
    from quasistatic.energies import Binary as Binary
    from quasistatic.energies import Clamped as Clamped
    from quasistatic.energies import DiagonalGaussian as DiagonalGaussian
    from quasistatic.energies import Gaussian as Gaussian
    from quasistatic.energies import GaussianMixture as GaussianMixture
    from quasistatic.energies import IndependentUnits as IndependentUnits
    from quasistatic.energies import Inputs as Inputs
    from quasistatic.energies import Interpolated as Interpolated
    from quasistatic.energies import IsotropicGaussian as IsotropicGaussian
    from quasistatic.energies import Neural as Neural
    from quasistatic.energies import Pairwise as Pairwise
    from quasistatic.energies import Potential as Potential
    from quasistatic.energies import Spin as Spin
    from quasistatic.energies import UniformBox as UniformBox
    from quasistatic.energies import as_energy as as_energy
    from quasistatic.energies import clamped as clamped
    from quasistatic.energies import convnet as convnet
    from quasistatic.energies import mlp as mlp
    from quasistatic.energies import starts as starts
    from quasistatic.errors import CheckFailed as CheckFailed
    from quasistatic.errors import InputError as InputError
    from quasistatic.errors import RunFailure as RunFailure
    from quasistatic.kernels import HMC as HMC
    from quasistatic.kernels import MALA as MALA
    from quasistatic.kernels import AbstractKernel as AbstractKernel
    from quasistatic.kernels import AuxiliaryGibbs as AuxiliaryGibbs
    from quasistatic.kernels import BlockGibbs as BlockGibbs
    from quasistatic.kernels import Exchange as Exchange
    from quasistatic.kernels import Gibbs as Gibbs
    from quasistatic.kernels import Langevin as Langevin
    from quasistatic.kernels import Ramped as Ramped
    from quasistatic.kernels import SiteGibbs as SiteGibbs
    from quasistatic.kernels import Tempered as Tempered
    from quasistatic.kernels import Trajectory as Trajectory
    from quasistatic.kernels import parallel_tempering as parallel_tempering
    from quasistatic.kernels import trajectory_tempering as trajectory_tempering
    from quasistatic.metric import minimal_dissipation as minimal_dissipation
    from quasistatic.metric import natural_gradient as natural_gradient
    from quasistatic.regulators import AbstractRegulator as AbstractRegulator
    from quasistatic.regulators import EndogenousTemperature as EndogenousTemperature
    from quasistatic.regulators import KeepESS as KeepESS
    from quasistatic.regulators import KeepPace as KeepPace
    from quasistatic.regulators import Resample as Resample
    from quasistatic.regulators import Restart as Restart
    from quasistatic.regulators import Scheduled as Scheduled
    from quasistatic.regulators import ShortRun as ShortRun
    from quasistatic.regulators import SpendWork as SpendWork
    from quasistatic.regulators import Sweeps as Sweeps
    from quasistatic.regulators import Thermostat as Thermostat
    from quasistatic.rules import AbstractRule as AbstractRule
    from quasistatic.rules import MaximumLikelihood as MaximumLikelihood
    from quasistatic.rules import NoiseContrastive as NoiseContrastive
    from quasistatic.rules import PseudoLikelihood as PseudoLikelihood
    from quasistatic.rules import ScoreMatching as ScoreMatching
    from quasistatic.rules import SetPoint as SetPoint
    from quasistatic.thermo import Controls as Controls
    from quasistatic.thermo import Ensemble as Ensemble
    from quasistatic.thermo import advance as advance
    from quasistatic.thermo import open_at_law as open_at_law
    from quasistatic.thermo import relax as relax
    from quasistatic.thermo import switch as switch
    from quasistatic.train import Plan as Plan
    from quasistatic.train import Trainer as Trainer
    from quasistatic.train import cd as cd
    from quasistatic.train import fit as fit
    from quasistatic.train import jarzynski as jarzynski
    from quasistatic.train import pcd as pcd
    from quasistatic.train import short_run as short_run

__version__ = "0.1.0"

_HOME = {
    "_results": ("Estimate", "RESULTS"),
    "cli.load": ("load",),
    "energies": (
        "AbstractEnergy AbstractTractable Binary Clamped DiagonalGaussian Gaussian GaussianMixture IndependentUnits "
        "Inputs Interpolated IsotropicGaussian Neural Pairwise Potential RBM Spin UniformBox as_energy "
        "clamped convnet mlp starts"
    ).split(),
    "errors": ("CheckFailed", "InputError", "RunFailure"),
    "kernels": (
        "AbstractKernel AuxiliaryGibbs BlockGibbs Exchange Gibbs HMC Langevin MALA Ramped SiteGibbs Tempered "
        "Trajectory parallel_tempering trajectory_tempering"
    ).split(),
    "metric": ("minimal_dissipation", "natural_gradient"),
    "regulators": (
        "AbstractRegulator EndogenousTemperature KeepESS KeepPace Resample Restart Scheduled ShortRun SpendWork Sweeps "
        "Thermostat"
    ).split(),
    "rules": ("AbstractRule", "MaximumLikelihood", "NoiseContrastive", "PseudoLikelihood", "ScoreMatching", "SetPoint"),
    "thermo": ("Controls", "Ensemble", "advance", "open_at_law", "relax", "switch"),
    "train": ("Plan", "Trainer", "cd", "fit", "jarzynski", "pcd", "short_run"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = ["__version__", *_MODULE_OF]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"quasistatic.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
