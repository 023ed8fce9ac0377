"""Records: one row of numbers per recorded step, and the honest log Z behind it.

Likelihoods are live: they belong to the raw parameters of the recorded step and take `log Z` from the auditor. A
number that cannot be trusted is withheld (an empty cell) with a reason, never replaced by a guess.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._results import Estimate
from quasistatic._types import Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.estimators import log_z_from_groups
from quasistatic.thermo.ledger import Ledger
from quasistatic.train.anchor import Anchor
from quasistatic.train.checkpoint import write_text
from quasistatic.train.dissipated import Starts, Travelled, dissipation_row
from quasistatic.train.state import TrainState
from quasistatic.train.tempered import temperature_row

COLUMNS = (
    "step log_z log_z_stderr ll_train ll_heldout ll_stderr ess_driver ess_auditor work heat shadow_work excess_work "
    "flip_rate beta log_z_driver ll_heldout_driver feedback_bias feedback_bias_stderr gradient_norm n_resampled "
    "accept_rate n_sweeps score log_z_exact anchor_step excess_work_stderr ll_approximate minimal_work efficiency "
    "predicted_work feedback_work predicted_ratio relaxation time_elapsed time_step temperature smoothed_signal gap "
    "norm_over_t n_rungs rung_acceptance lr_scale start_divergence start_divergence_stderr"
).split()
"""Columns of metrics.csv. `anchor_step` is the step whose raw parameters the likelihoods belong to. Work, heat and
shadow work are run totals of the driver's unweighted means per update; excess work, the approximate likelihood of the
training rows and the least work for the distance travelled are explained in `dissipated`, temperature, gap and norm in
`tempered`. `gradient_norm` is that of the descended gradient, for metric steps in the scores' coordinates (`|A'g|`, see
`metric.scores`). `feedback_bias` estimates `log_z_driver` minus the true `log Z` (see `train.feedback`); empty for
training without account weights. `predicted_work`, `feedback_work` (a part of it), `predicted_ratio` and `relaxation`
(updates) are what is expected of the driver (`dissipated`). `n_rungs` and `rung_acceptance` (of exchanges between the
model and the last frozen rung of a ladder that grows, `ascent`; of the worst pair of any other); `lr_scale` is the
factor on the learning rate."""

MONITORED = 10_000
"""Training rows that the live training likelihood averages over (the first ones; all when there are fewer)."""

METHOD = "auditor (Jarzynski)"


def live_log_z(auditor: Ensemble | None, ledger: Ledger | None) -> Estimate:
    """`log Z` of the recorded parameters from the auditor's groups, or withheld with the reason.

    It is withheld when one update left a group fewer effective walkers than an eighth of it (at least 4), or when the
    groups
    disagree so much that fewer than a quarter of them carry the mean: both say that the weights have lost the thread.
    """
    if auditor is None or ledger is None:
        return Estimate.withheld("the run has no auditor", METHOD)
    if not bool(auditor.anchored):
        return Estimate.withheld("the auditor is not anchored to a known Z", METHOD)
    groups = np.asarray(auditor.log_partition_groups(), np.float64)
    if not np.isfinite(groups).all():
        return Estimate.withheld("a group of the auditor has no finite weight", METHOD)
    m = auditor.n_walkers // auditor.n_groups
    lowest, floor = float(ledger.lowest_cess), max(4.0, m / 8)
    if m >= 8 and lowest < floor:
        return Estimate.withheld(
            f"one update left {lowest:.1f} of {m} effective walkers per group (at least {floor:.0f} are needed): "
            "smaller updates, more sweeps or more walkers",
            METHOD,
        )
    weights = np.exp(groups - groups.max())
    effective = weights.sum() ** 2 / (weights**2).sum()
    if auditor.n_groups >= 4 and effective < auditor.n_groups / 4:
        return Estimate.withheld(
            f"the groups disagree by {groups.std(ddof=1):.1f} nats (s.d.): the weights have lost the thread; "
            "smaller updates, more sweeps or more walkers",
            METHOD,
        )
    return log_z_from_groups(groups)


@eqx.filter_jit
def mean_potential(energy: AbstractEnergy, beta: ScalarLike, x: Float[Array, "n ..."]) -> Scalar:
    """Mean reduced potential of samples, in blocks of 2,000."""
    values = jax.lax.map(lambda sample: energy.reduced(sample, beta), x, batch_size=min(2000, len(x)))
    return jnp.mean(values)


class Recorder:
    """Turns states into rows.

    Args:
        train: training data (the first `MONITORED` rows are used).
        heldout: held-out data, or None.
        log_z_start: log Z of the law at which the books were opened.
        rates: rates that the kernel reports.
        score: function of the model that says how good it is without reading the auditor (picks the best checkpoint).
        is_fused: whether the kernel books work and shadow work as one number.
        has_model_work: whether the driver's work is that of the model.
        is_weighted: whether the driver's own log Z takes part in the training, so that its bias is of interest.
        travelled: bound on the excess work from what the walkers travelled.
        starts: divergence of the law of new walkers from the model.
    """

    def __init__(
        self,
        train: np.ndarray,
        heldout: np.ndarray | None,
        *,
        log_z_start: float,
        rates: tuple[str, ...],
        score: Callable[[TrainState, Mapping[str, Any]], float | None],
        is_fused: bool = False,
        has_model_work: bool = True,
        is_weighted: bool = True,
        travelled: Travelled = lambda state: None,
        starts: Starts = lambda state, potential, log_z: Estimate.withheld("not asked for", METHOD),
    ):
        self._train = jnp.asarray(train[:MONITORED], float)
        self._heldout = None if heldout is None or not len(heldout) else jnp.asarray(heldout, float)
        self._log_z_start = log_z_start
        self._rates = rates
        self._score = score
        self._is_fused = is_fused
        self._has_model_work = has_model_work
        self._is_weighted = is_weighted
        self._travelled = travelled
        self._starts = starts

    def likelihoods(self, state: TrainState, anchor: Anchor | None = None) -> dict[str, Estimate]:
        """Live `log_z`, `ll_train` and `ll_heldout`: of the raw parameters, or of those that the anchor audited."""
        if state.auditor is None and anchor is not None:
            return {"log_z": anchor.log_z, "ll_train": anchor.ll_train, "ll_heldout": anchor.ll_heldout}
        log_z = live_log_z(state.auditor, state.auditor_ledger)
        ll_train, ll_heldout = self.of_model(state.model, state.controls.beta, log_z)
        return {"log_z": log_z, "ll_train": ll_train, "ll_heldout": ll_heldout}

    def _mean_potential(self, state: TrainState, log_z: Estimate, ll_train: Estimate) -> float:
        """Mean reduced potential of the training rows; contained in a live likelihood, where there is one."""
        if state.auditor is not None and log_z.value is not None and ll_train.value is not None:
            return -(ll_train.value + log_z.value)
        return float(mean_potential(state.model, state.controls.beta, self._train))

    def of_model(self, model: AbstractEnergy, beta: ScalarLike, log_z: Estimate) -> tuple[Estimate, Estimate]:
        """Mean log-likelihood of the training and of the held-out rows, given `log Z`."""
        ll_train = -(log_z + float(mean_potential(model, beta, self._train)))
        if self._heldout is None:
            return ll_train, Estimate.withheld("there are no held-out data", METHOD)
        return ll_train, -(log_z + float(mean_potential(model, beta, self._heldout)))

    def row(
        self, state: TrainState, *, time_elapsed: float, time_step: float, anchor: Anchor | None = None
    ) -> dict[str, Any]:
        """One row of metrics; None where a number is not available. Args: anchor, the last finished one."""
        live = self.likelihoods(state, anchor)
        step = int(state.step)
        anchor_step = step if state.auditor is not None else (None if anchor is None else anchor.step)
        log_z = live["log_z"]
        ledger = state.ledger
        is_anchored = bool(state.ensemble.anchored)
        # one walker that carries all the weight says nothing, not even something optimistic
        n_effective = float(jnp.min(state.ensemble.ess())) * (state.ensemble.n_walkers // state.ensemble.n_groups)
        log_z_driver = float(_pooled_log_z(state.ensemble)) if is_anchored and n_effective >= 2 else None
        potential = (
            None if self._heldout is None else float(mean_potential(state.model, state.controls.beta, self._heldout))
        )
        dissipated = dissipation_row(
            state,
            log_z,
            log_z_start=self._log_z_start,
            mean_potential=self._mean_potential(state, log_z, live["ll_train"]),
            is_current=anchor_step == step,
            is_fused=self._is_fused,
            has_model_work=self._has_model_work,
            travelled=self._travelled,
            starts=self._starts,
        )
        row: dict[str, Any] = {
            "step": step,
            "log_z": log_z.value,
            "log_z_stderr": log_z.stderr,
            "ll_train": live["ll_train"].value,
            "ll_heldout": live["ll_heldout"].value,
            "ll_stderr": log_z.stderr,
            "ess_driver": float(jnp.mean(state.ensemble.ess())),
            "ess_auditor": None if state.auditor is None else float(jnp.mean(state.auditor.ess())),
            "work": float(ledger.work.value),
            "heat": float(ledger.heat.value),
            "shadow_work": float(ledger.shadow_work.value),
            **dissipated,
            "flip_rate": float(ledger.rate("flip_rate")) if "flip_rate" in self._rates else None,
            "beta": float(state.controls.beta),
            "log_z_driver": log_z_driver,
            "ll_heldout_driver": None if log_z_driver is None or potential is None else -potential - log_z_driver,
            **_feedback(state, is_anchored and self._is_weighted),
            "gradient_norm": float(state.gradient_norm),
            "n_resampled": int(ledger.n_resampled),
            "accept_rate": float(ledger.rate("accept_rate")) if "accept_rate" in self._rates else None,
            "n_sweeps": int(state.controls.n_sweeps),
            "log_z_exact": None,
            "anchor_step": anchor_step,
            "time_elapsed": time_elapsed,
            "time_step": time_step,
            **temperature_row(state),
            "n_rungs": None,
            "rung_acceptance": None,
            "lr_scale": float(state.controls.lr_scale),
        }
        row["score"] = self._score(state, row)
        return row


def _feedback(state: TrainState, is_anchored: bool) -> dict[str, float | None]:
    """Estimated bias of the driver's log Z and its standard error; None where there is none."""
    feedback, names = state.feedback, ("feedback_bias", "feedback_bias_stderr")
    if feedback is None or not is_anchored:
        return dict.fromkeys(names)
    values = (float(feedback.bias.value), float(feedback.stderr()))
    return {name: value if np.isfinite(value) else None for name, value in zip(names, values, strict=True)}


def _pooled_log_z(ensemble: Ensemble) -> Scalar:
    groups = ensemble.log_partition_groups()
    return jax.nn.logsumexp(groups) - jnp.log(ensemble.n_groups)


def write_metrics(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes all rows atomically; numbers round-trip exactly."""
    lines = [",".join(COLUMNS)] + [",".join(_cell(row.get(name)) for name in COLUMNS) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def append_metrics(path: Path, row: dict[str, Any]) -> None:
    """Appends one row (the header too when the file is new)."""
    if not path.exists():
        write_metrics(path, [row])
        return
    with open(path, "a", encoding="utf-8") as file:
        file.write(",".join(_cell(row.get(name)) for name in COLUMNS) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Complete rows of a metrics file; an unfinished last line is dropped, a missing file is empty.

    Columns that the file does not have, because an earlier version wrote it, are None.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    integers = {"step", "n_resampled", "n_sweeps", "anchor_step", "n_rungs"}

    def value(name: str, cell: str) -> Any:
        if cell == "":
            return None
        return int(cell) if name in integers else float(cell)

    rows, header = [], lines[0].split(",") if lines else []
    for line in lines[1:]:
        cells = line.split(",")
        if len(cells) == len(header):
            read = dict(zip(header, cells, strict=True))
            rows.append({name: value(name, read.get(name, "")) for name in COLUMNS})
    return rows


def _cell(value: Any) -> str:
    if value is None or not np.isfinite(value):
        return ""
    return str(value) if isinstance(value, int) else repr(float(value))
