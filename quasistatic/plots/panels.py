"""The curves of a run, before anyone draws them: which columns share axes, in which colour, with which band.

The figures for papers (`plots`) and the interactive page (`report`) draw the same panels, so that they cannot
disagree. A panel that cannot be drawn says why. Colours are told apart by readers with any colour vision
(after Okabe and Ito, 2008, darkened or lightened for contrast on white and on near-black), and never alone:
dashes and markers say the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from quasistatic._results import Estimate
from quasistatic.run import Run

Table = dict[str, np.ndarray]

PALETTE: dict[str, tuple[str, str]] = {  # role -> (on white, on near-black)
    "train": ("#0072B2", "#56B4E9"),
    "heldout": ("#C24E00", "#FF9A52"),
    "exact": ("#111418", "#F4F5F7"),
    "driver": ("#A13D7D", "#E08FC2"),
    "auditor": ("#00805C", "#3ECFA4"),
}


@dataclass(frozen=True)
class Curve:
    """One line, dashed line or row of points.

    Args:
        label: Name in the legend.
        x: Steps.
        y: Values; `nan` where not available.
        role: Key of `PALETTE`.
        style: How it is drawn.
        half_width: Half the height of the 95 % band, or `None`.
        symbol: Marker of points.
    """

    label: str
    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    role: str
    style: Literal["line", "dashed", "points"] = "line"
    half_width: Float[np.ndarray, " n"] | None = None
    symbol: Literal["circle", "diamond"] = "circle"


@dataclass(frozen=True)
class Panel:
    """Curves that share their axes.

    Args:
        name: File name and anchor.
        title: Heading.
        y_label: Quantity and unit.
        note: What to see, in a sentence or two.
        curves: What is drawn; nothing when all of it is missing.
        missing: What is not drawn and why, one sentence each.
        bounds: Range of the y axis, or `None` for the range of the curves.
        zero: Whether the zero line is drawn.
    """

    name: str
    title: str
    y_label: str
    note: str
    curves: tuple[Curve, ...] = ()
    missing: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None
    zero: bool = False


def panels(run: Run) -> list[Panel]:
    """All panels of curves of a run, drawn or not, in the order in which they are read."""
    table = live_table(run) if run.has("metrics.csv") else {}
    if not table or not len(table["step"]):
        table = {"step": np.empty(0)}
    wide = band_factor(run)
    no_live = _why_no_live(run)
    found = [
        _likelihood(table, wide, no_live),
        _log_z(table, wide, no_live),
        _live_error(table, wide, no_live),
        _ess(table, no_live),
        _work(table),
        _excess_work(table, wide),
        *_dissipation(table, wide),
        *(_each(table, STARTS) if np.any(table.get("start_divergence", 0.0) > 0) else []),
        _motion(table),
        _gradient(table),
    ]
    if _column(table, "feedback_bias") is not None:
        found.insert(3, _feedback(table, wide))
    if _column(table, "score") is not None:
        found.append(_score(table))
    beta = _column(table, "beta")
    if beta is not None and np.nanmax(beta) > np.nanmin(beta):
        curve = Curve("beta", table["step"], beta, "train")
        found.append(Panel("beta", "Inverse temperature", "beta", "Set by a schedule or a regulator.", (curve,)))
        found += _each(table, TEMPERED)
    return found + _each(table, LADDER)


def live_table(run: Run) -> Table:
    """Columns of metrics.csv with every live number in the row of the step whose parameters it belongs to.

    While a run with anchors goes on, rows repeat the last number there is; afterwards each number is put where it
    belongs, and what was withheld is left out.
    """
    table = dict(run.metrics)
    if "anchor_step" not in table or not run.has("anchors.csv"):
        return table
    row_of = {int(step): i for i, step in enumerate(table["step"])}
    names = ("log_z", "log_z_stderr", "ll_train", "ll_heldout")
    for name in (*names, "ll_stderr"):
        table[name] = np.full_like(table["step"], np.nan, dtype=float)
    for anchor in run.anchors:
        i = row_of.get(anchor["step"])
        if i is None:
            continue
        for name in names:
            table[name][i] = np.nan if anchor[name] is None else anchor[name]
        table["ll_stderr"][i] = table["log_z_stderr"][i]
    return table


def auditor_dof(run: Run) -> int | None:
    """Degrees of freedom of the auditor's standard errors: one less than its groups."""
    auditor = run.config.get("auditor")
    n_groups = auditor.get("n_groups") if isinstance(auditor, dict) else None
    return n_groups - 1 if isinstance(n_groups, int) and n_groups > 1 else None


def band_factor(run: Run) -> float:
    """Half-width of a 95 % interval of a live number, in standard errors."""
    interval = Estimate(0.0, 1.0, None, "none", "unit", dof=auditor_dof(run)).interval()
    assert interval is not None
    return interval[1]


def exact_likelihood(table: Table, part: Literal["train", "heldout"]) -> Float[np.ndarray, " n_rows"]:
    """Mean log-likelihood with the exact log Z in place of the estimated one; `nan` where none was computed.

    The data enter a live likelihood only through the mean of -u, which needs no walkers:
    `ll_exact = ll + log_z - log_z_exact` with any pair (ll, log_z) of the same row.
    """
    nothing = np.full_like(table["step"], np.nan)
    minus_u = table.get(f"ll_{part}", nothing) + table.get("log_z", nothing)
    by_driver = table.get(f"ll_{part}_driver", nothing) + table.get("log_z_driver", nothing)
    return np.where(np.isfinite(minus_u), minus_u, by_driver) - table.get("log_z_exact", nothing)


def _likelihood(table: Table, wide: float, no_live: str) -> Panel:
    curves, missing = [], []
    error = table.get("ll_stderr")
    for part, label in (("train", "train"), ("heldout", "held-out")):
        live = _column(table, f"ll_{part}")
        if live is not None:
            at = _known(live, table)
            half = None if error is None else wide * error[at]
            curves.append(Curve(f"{label}, live", table["step"][at], live[at], part, half_width=half))
    if not curves:
        missing.append(f"Live log-likelihoods are not shown: {no_live}")
    driver = _column(table, "ll_heldout_driver")
    if driver is not None:
        curves.append(Curve("held-out, driver's own (optimistic)", table["step"], driver, "driver", "dashed"))
    symbols: tuple[tuple[Literal["train", "heldout"], str, Literal["circle", "diamond"]], ...]
    symbols = (("train", "train, exact", "circle"), ("heldout", "held-out, exact", "diamond"))
    n_exact = len(curves)
    for part, label, symbol in symbols:
        exact = exact_likelihood(table, part)
        at = np.isfinite(exact)
        if at.any():
            curves.append(Curve(label, table["step"][at], exact[at], "exact", "points", symbol=symbol))
    if len(curves) == n_exact:
        missing.append("Exact points are not shown: the column log_z_exact has no values.")
    note = (
        "Mean log-likelihood per example of the audited parameters (raw, unless the run's result says averaged). Bands "
        "are 95 % intervals of the auditor's "
        "estimate. The driver's own number is biased by the training it drives, and looks better than it is."
    )
    title = "Log-likelihood while training"
    return Panel("likelihood", title, "log-likelihood [nats]", note, tuple(curves), tuple(missing))


def _known(live: Float[np.ndarray, " n"], table: Table) -> Any:
    """Rows of a live curve: all of them, or those with a number where most rows have none by design (anchors)."""
    anchor_step = table.get("anchor_step", table["step"])
    has_anchors = (np.isfinite(anchor_step) & (anchor_step != table["step"])).any()
    return np.isfinite(live) if has_anchors else slice(None)


def _log_z(table: Table, wide: float, no_live: str) -> Panel:
    curves, missing = [], []
    live, error = _column(table, "log_z"), table.get("log_z_stderr")
    if live is None:
        missing.append(f"The auditor's log Z is not shown: {no_live}")
    else:
        at = _known(live, table)
        half = None if error is None else wide * error[at]
        curves.append(Curve("live (auditor)", table["step"][at], live[at], "auditor", half_width=half))
    driver = _column(table, "log_z_driver")
    if driver is not None:
        curves.append(Curve("driver's own (biased)", table["step"], driver, "driver", "dashed"))
    exact = table.get("log_z_exact")
    if exact is not None and (at := np.isfinite(exact)).any():
        curves.append(Curve("exact", table["step"][at], exact[at], "exact", "points", symbol="diamond"))
    note = "Logarithm of the partition function of the audited parameters, from the work done on the walkers."
    return Panel("log_z", "Partition function", "log Z [nats]", note, tuple(curves), tuple(missing))


def _live_error(table: Table, wide: float, no_live: str) -> Panel:
    title = "Can the live number be trusted?"
    note = "Live minus exact log Z. Zero should lie in 95 % of the bars."
    y_label = "log Z, live - exact [nats]"
    exact = table.get("log_z_exact")
    if exact is None or not np.isfinite(exact).any():
        why = "Not shown: the exact log Z is not known for this run (column log_z_exact has no values)."
        return Panel("live_error", title, y_label, note, missing=(why,))
    curves = []
    live, error = table.get("log_z"), table.get("log_z_stderr")
    if live is not None and (at := np.isfinite(live - exact)).any():
        half = None if error is None else wide * error[at]
        curve = Curve("auditor", table["step"][at], (live - exact)[at], "auditor", "points", half)
        curves.append(curve)
    if not curves:
        return Panel("live_error", title, y_label, note, missing=(f"Not shown: {no_live}",))
    return Panel("live_error", title, y_label, note, tuple(curves), zero=True)


def _feedback(table: Table, wide: float) -> Panel:
    """The estimated bias of the driver's log Z beside what auditor and enumeration measure of it."""
    nothing = np.full_like(table["step"], np.nan, dtype=float)
    error = table.get("feedback_bias_stderr", nothing)
    half = None if not _finite(error).any() else 1.96 * error
    curves = [Curve("estimated", table["step"], table["feedback_bias"], "driver", "dashed", half)]
    driver = table.get("log_z_driver", nothing)
    live, exact = driver - table.get("log_z", nothing), driver - table.get("log_z_exact", nothing)
    if (at := _finite(live)).any():
        band = wide * table.get("log_z_stderr", nothing)[at]
        curves.append(Curve("driver - live (auditor)", table["step"][at], live[at], "auditor", half_width=band))
    if (at := _finite(exact)).any():
        curves.append(Curve("driver - exact", table["step"][at], exact[at], "exact", "points", symbol="diamond"))
    note = (
        "How far the driver's own log Z is off because its walkers steer the parameters: estimated from the difference "
        "of two halves of them, and measured where another log Z is known. Bands are 95 % intervals."
    )
    title = "What feedback does to the driver's log Z"
    return Panel("feedback", title, "bias of log Z [nats]", note, tuple(curves), zero=True)


def _ess(table: Table, no_live: str) -> Panel:
    curves, missing = [], []
    for name, why in (("driver", "no weights are kept."), ("auditor", no_live)):
        fraction = _column(table, f"ess_{name}")
        if fraction is None:
            missing.append(f"The {name}'s ESS is not shown: {why}")
        else:
            style = "dashed" if name == "driver" else "line"
            curves.append(Curve(name, table["step"], fraction, name, style))
    note = "Share of the walkers that still count after weighting. A jump up to 1 is a resampling."
    title = "Effective sample size"
    return Panel("ess", title, "ESS / walkers", note, tuple(curves), tuple(missing), (0.0, 1.0))


def _work(table: Table) -> Panel:
    note = "Totals since the start, means over the driver's walkers. Work is done on them when the parameters "
    note += "change, heat is absorbed from the bath when they move. Of stacks of replicas both are sums over the rungs."
    columns = (("work", "work", "train", "line"), ("heat", "heat", "heldout", "dashed"))
    return _simple(table, "work", "Work and heat", "nats per walker", note, columns, zero=True)


def _excess_work(table: Table, wide: float) -> Panel:
    note = "Totals since the start. Excess work is what was spent beyond the free-energy difference, on the walkers "
    note += "that made the gradients; linear response predicts it from the fluctuations of the work and is low when "
    note += "walkers are caught behind barriers; least work is a bound for the distance travelled. Shadow work is the "
    note += "price of a kernel without detailed balance: zero for Gibbs and Metropolis moves, booked as work by "
    note += "fused Langevin moves."
    columns = (
        ("excess_work", "excess work", "driver", "line"),
        ("predicted_work", "excess work by linear response", "driver", "dashed"),
        ("minimal_work", "least work for this distance", "train", "dashed"),
        ("shadow_work", "shadow work", "auditor", "dashed"),
    )
    panel = _simple(table, "excess_work", "Excess and shadow work", "nats per walker", note, columns, zero=True)
    curves = [replace(c, half_width=_half(table, wide)) if c.label == "excess work" else c for c in panel.curves]
    return replace(panel, curves=tuple(curves))


def _dissipation(table: Table, wide: float) -> list[Panel]:
    """What a likelihood that believes the walkers is off by, and the share of the work that was needed."""
    found = []
    if _column(table, "ll_approximate") is not None and _column(table, "excess_work") is not None:
        step = table["step"]
        note = "Approximate minus true log-likelihood of the training examples. Without weights it is the excess work: "
        note += "negative only if walkers started out of equilibrium. With the driver's own weights it is nearly gone."
        curves = [Curve("without weights", step, table["excess_work"], "driver", "line", _half(table, wide))]
        own, audited = _column(table, "log_z_driver"), _column(table, "log_z")
        if own is not None and audited is not None:
            curves.append(Curve("with weights", step, audited - own, "auditor", "dashed"))
        found.append(Panel("bias", "Bias of the likelihood", "nats", note, tuple(curves), zero=True))
    if _column(table, "efficiency") is not None:
        note = "Least work for the distance travelled over excess work: 1 if no schedule could have spent less. Low "
        note += "when walkers lag behind, or when the speed of training was uneven."
        columns = (("efficiency", "efficiency", "driver", "line"),)
        found.append(_simple(table, "efficiency", "Efficiency", "least / excess work", note, columns))
    return found


def _half(table: Table, wide: float) -> np.ndarray | None:
    error = table.get("excess_work_stderr")
    return None if error is None else wide * error


def _motion(table: Table) -> Panel:
    note = "Share of the units that change in a step, and of the proposals that are accepted. "
    note += "Near zero the chains are frozen."
    columns = (
        ("flip_rate", "flip rate", "train", "line"),
        ("accept_rate", "acceptance", "heldout", "dashed"),
    )
    return _simple(table, "flip_rate", "Motion of the walkers", "rate", note, columns, bounds=(0.0, 1.0))


def _gradient(table: Table) -> Panel:
    columns = (("gradient_norm", "gradient norm", "train", "line"),)
    note = "Euclidean norm of the gradient estimate over all parameters (natural steps: in the metric's coordinates)."
    return _simple(table, "gradient_norm", "Gradient", "norm", note, columns)


def _score(table: Table) -> Panel:
    note = "What picks the best checkpoint, without the auditor: the pseudo-log-likelihood of held-out rows where "
    note += "the model has one, else the driver's own log-likelihood."
    columns = (("score", "score", "heldout", "line"),)
    return _simple(table, "score", "Score", "score [nats]", note, columns)


_T = "T of model and walkers, moved by a schedule or a regulator; every change is booked as work."
_NORM = "Parameters and T together are a gauge: only their ratio shapes the model."
_SIGNAL = "What the regulator of the temperature reads, smoothed: flips per unit, unless told otherwise."
_RUNGS = "Rungs on which walkers are stacks of replicas: earlier models or temperatures, the live model on top."
_LOOKS = "Exchanges of the two rungs that exchange least; where a ladder grows, of the model and the rung below it."
TEMPERED = (
    ("temperature", "Temperature", "T", _T),
    ("norm_over_t", "Norm over T", "|W| / T", _NORM),
    ("smoothed_signal", "Signal of the thermostat", "smoothed signal", _SIGNAL),
)
_STARTS = "KL(law that walkers start from | model): excess work may fall by as much with every start."
STARTS = (("start_divergence", "Divergence of the starts", "D(0) [nats]", _STARTS),)
LADDER = (("n_rungs", "Ladder", "rungs", _RUNGS), ("rung_acceptance", "Exchanges of replicas", "acceptance", _LOOKS))


def _each(table: Table, drawn: tuple[tuple[str, str, str, str], ...]) -> list[Panel]:
    """A panel for every column that has numbers. Args: column, title, label of the axis and note of each."""
    return [
        _simple(table, name, title, label, text, ((name, label, "train", "line"),))
        for name, title, label, text in drawn
        if _column(table, name) is not None
    ]


def _simple(table: Table, name: str, title: str, y_label: str, note: str, columns, **options) -> Panel:
    """Panel of plain columns (column, label, role, style); a column that no kernel fills is no news."""
    curves, missing = [], []
    for column, label, role, style in columns:
        values = _column(table, column)
        if values is None:
            missing.append(column)
        else:
            curves.append(Curve(label, table["step"], values, role, style))
    absent = () if curves else (f"Not shown: no values in {' or in '.join(missing)}.",)
    return Panel(name, title, y_label, note, tuple(curves), absent, **options)


def _column(table: Table, name: str) -> np.ndarray | None:
    """Column with at least one number, or `None`."""
    values = table.get(name)
    return values if values is not None and _finite(values).any() else None


def _finite(values: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    return np.isfinite(values)


def _why_no_live(run: Run) -> str:
    """Why there are no live numbers, in the run's own words where it gives any."""
    final = (run.result or {}).get("final")
    estimate = final.get("ll_heldout") if isinstance(final, dict) else None
    if isinstance(estimate, dict) and estimate.get("reason"):
        return str(estimate["reason"]).rstrip(".") + "."
    auditor = run.config.get("auditor")
    if not isinstance(auditor, dict) or not auditor.get("n_walkers"):
        return "there is no auditor (auditor.n_walkers is 0)."
    return "the run has recorded none."
