"""From evidence to a regime, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from quasistatic.diagnose.evidence import REGIMES, Evidence
from quasistatic.errors import InputError

NO_CHAINS = "telling regimes apart needs chains of the final model, which were not run"

ADVICE = {
    "diverging": (
        "lower optimiser.rate: learning goes away from the data",
        "bound the parameters (training.l2), and look at the last age whose score still rose",
    ),
    "frozen": (
        "the gradient comes from walkers that do not move: train with replica moves (exchange.kind = 'trajectory' or "
        "'tempering'; sample --method ptt or tempering for this model) or again with a smaller optimiser.rate",
        "keep the weights small (training.l2); more sweeps do not help chains that change nothing",
    ),
    "out_of_equilibrium": (
        "generate with the dynamics of the training (the same start and number of sweeps); long chains show another "
        "law, and likelihoods of this model are not those of its samples",
        "for an equilibrium model train with persistent walkers (training.method pcd or jarzynski), more sweeps "
        "(kernel.n_sweeps, or kernel.pace to have them follow the walkers' memory) or a smaller optimiser.rate, and "
        "replica moves (exchange.kind) where chains of different starts disagree",
    ),
    "equilibrium": ("long chains, walkers and their starts agree: samples and likelihoods speak of one law",),
}


def verdict(evidence: Sequence[Evidence], *, has_chains: bool) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Regime, the reason where there is none, and advice.

    Args:
        evidence: what was found.
        has_chains: whether chains of the final model were run. Without them equilibrium cannot be told from its
            absence; what diverges or is frozen can still be seen in the files.

    Raises:
        InputError: evidence for a regime that does not exist.
    """
    named = {item.regime for item in evidence if item.regime is not None}
    if unknown := named - set(REGIMES):
        raise InputError(f"evidence speaks for unknown regimes {sorted(unknown)}; use one of {', '.join(REGIMES)}")
    found = next((regime for regime in REGIMES if regime in named), None)
    if found is None and not has_chains:
        return None, NO_CHAINS, ()
    regime = found or "equilibrium"
    return regime, None, ADVICE[regime]
