"""The sections of the page, top to bottom: each is its HTML and the charts that are drawn in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quasistatic.plots import POPULATIONS, views
from quasistatic.plots.panels import panels
from quasistatic.report import charts, markup
from quasistatic.report.glossary import TERMS
from quasistatic.report.markup import escape
from quasistatic.report.summary import Number, Summary
from quasistatic.run import Archive, Run

NO_CHECKPOINT = "The run has written no checkpoint (checkpoints/last.npz) yet."


@dataclass(frozen=True)
class Section:
    """Part of the page.

    Args:
        anchor: Its id.
        title: Its heading, also in the navigation.
        html: All of it.
        charts: Data of the charts in it.
    """

    anchor: str
    title: str
    html: str
    charts: tuple[charts.Chart, ...] = ()


def header(run: Run, summary: Summary) -> str:
    """Name, outcome, what happened and what to do about it."""
    section = run.config.get("run")
    recipe = section.get("recipe", "") if isinstance(section, dict) else ""
    if summary.outcome is None:
        pill = '<span class="pill still">not finished</span>'
    elif summary.outcome == "ok":
        pill = '<span class="pill good">ok</span>'
    else:
        pill = f'<span class="pill bad">{escape(summary.outcome)}</span>'
    kicker = " \u00b7 ".join(["quasistatic", "training report", *([str(recipe)] if recipe else [])])
    facts = " \u00b7 ".join(_facts(run, summary))
    lines = [
        f'<p class="kicker">{escape(kicker)}</p>',
        f'<div class="title"><h1>{escape(run.path.resolve().name)}</h1>{pill}</div>',
        f'<p class="facts">{escape(facts)}</p>' if facts else "",
    ]
    if summary.outcome not in (None, "ok"):
        remedy = f"<p><b>What to do:</b> {escape(summary.remedy)}.</p>" if summary.remedy else ""
        message = escape(summary.message.rstrip("."))
        lines.append(f'<div class="banner bad" role="alert"><p><b>The run failed:</b> {message}.</p>{remedy}</div>')
    if summary.outcome is None:
        text = "There is no result.json yet: numbers are those of the last recorded row, and none is final."
        lines.append(f'<div class="banner still"><p>{text}</p></div>')
    if run.has("metrics.csv") and run.is_cut_off:
        text = "The last line of metrics.csv was cut off while it was written, and is left out."
        lines.append(f'<div class="banner still"><p>{text}</p></div>')
    return "\n".join(lines)


def headline(summary: Summary) -> Section:
    """The numbers that a reader came for, then all of them in a table."""
    live, exact = summary.find("ll_heldout"), summary.find("ll_heldout", "exact", "raw")
    cards = [
        _live_card(live),
        _exact_card(live, exact, summary.outcome is not None),
        _driver_card(summary, exact or live),
    ]
    log_z = summary.find("log_z")
    if log_z is not None and log_z.estimate.value is not None:
        exact_log_z = summary.find("log_z", "exact", "raw")
        note = f"{_whose(log_z)}{_beside_exact(exact_log_z, markup.decimals_of(log_z.estimate.stderr))}"
        cards.append(markup.card("log Z", markup.with_error(log_z.estimate, "nats"), note))
    cards.append(_ess_card(summary))
    main = f'<div class="cards">{"".join(cards)}</div>{_table(summary)}'
    return _section("numbers", "Numbers", main)


def curves(run: Run) -> Section:
    """Every panel that has something to show; the others say why they have not."""
    if not run.has("metrics.csv"):
        absent = markup.absences({"Curves": "The run has written no metrics.csv yet."})
        return _section("curves", "Curves", absent)
    drawn, absent, data = [], {}, []
    for panel in panels(run):
        if not panel.curves:
            absent[panel.title] = " ".join(panel.missing) or "Nothing is recorded yet."
            continue
        chart = markup.chart(panel.name, panel.title)
        caption = (panel.note, *panel.missing)
        drawn.append(markup.figure(panel.title, chart, caption, is_full=panel.name == "likelihood"))
        data.append(charts.curve_chart(panel))
    switch = (
        '<div class="switch" role="group" aria-label="Scale of the steps">'
        '<button type="button" data-steps="linear" aria-pressed="true">linear steps</button>'
        '<button type="button" data-steps="log" aria-pressed="false">log steps</button></div>'
    )
    body = f'<div class="charts">{"".join(drawn)}{markup.absences(absent)}</div>'
    top = f'<div class="bar"><h2>Curves</h2>{switch if drawn else ""}</div>'
    return Section("curves", "Curves", f'<section id="curves">{top}{body}</section>', tuple(data))


def weights(run: Run) -> Section:
    """Histograms of the weights of both populations in the last checkpoint."""
    title = "Weights"
    if not run.has("checkpoints/last.npz"):
        return _section("weights", title, markup.absences({"Weights": NO_CHECKPOINT}))
    arrays = run.checkpoint("last")
    drawn, absent, notes = {}, {}, []
    for population, role in POPULATIONS:
        w = views.weights(arrays, population)
        if w is None:
            absent[role.capitalize()] = f"The checkpoint holds no weights of the {role}."
        elif w.are_equal:
            absent[role.capitalize()] = f"All weights of the {role} are equal: just resampled, or never weighted."
        else:
            drawn[role] = w
            if w.n_without:
                notes.append(f"{w.n_without} walkers of the {role} have no weight at all and are not shown.")
    if not drawn:
        return _section("weights", title, markup.absences(absent))
    note = "Weight of each walker relative to the mean of its group. A long right tail means few walkers count."
    caption = (f"{note} Step {arrays.step:,}.", *notes)
    chart = markup.chart("weights", "Histogram of the weights")
    figure = markup.figure("Weights of the walkers", chart, caption, is_full=True)
    body = f'<div class="charts">{figure}{markup.absences(absent)}</div>'
    return _section("weights", title, body, (charts.weight_chart(drawn),))


def pictures(run: Run) -> Section:
    """Walkers, filters and couplings of the last checkpoint."""
    title = "Pictures"
    if not run.has("checkpoints/last.npz"):
        return _section("pictures", title, markup.absences({"Pictures": NO_CHECKPOINT}))
    arrays = run.checkpoint("last")
    shape = run.image_shape if run.has("environment.json") else None
    drawn, absent, data = [], {}, []
    for population, role in POPULATIONS:
        tiles = views.walker_tiles(arrays, population, shape)
        if tiles is not None:
            drawn.append(_walkers_figure(arrays, population, role, tiles))
    scatter = charts.scatter_chart(arrays)
    if scatter is not None:
        data.append(scatter)
        chart = markup.chart("scatter", "Walkers in the plane", is_square=True)
        caption = f"Step {arrays.step:,}. At most {charts.N_DOTS_MAX} walkers of each; weights are not shown."
        drawn.append(markup.figure("Walkers in the plane", chart, (caption,)))
    if not drawn:
        absent["Walkers"] = "Events are neither images (environment.json has no event_shape) nor points in the plane."
    filters = views.filter_tiles(arrays, shape)
    if filters is not None:
        drawn.append(_filters_figure(arrays, filters))
        drawn += _ages_figure(run, shape)
    elif views.weight_matrix(arrays) is not None:
        absent["Filters"] = "The model has hidden units, but its events are not images."
    matrix = views.couplings_matrix(arrays)
    if matrix is not None:
        data.append(charts.couplings_chart(matrix))
        chart = markup.chart("couplings", "Couplings matrix", is_square=True)
        caption = f"Raw parameters at step {arrays.step:,}; pairs without an edge are left empty."
        drawn.append(markup.figure("Couplings", chart, (caption,)))
    body = f'<div class="charts">{"".join(drawn)}{markup.absences(absent)}</div>'
    return _section("pictures", title, body, tuple(data))


def configuration(run: Run) -> Section:
    """Every key of config.toml."""
    return _section("configuration", "Configuration", markup.tables(run.config, rest="top level"))


def environment(run: Run) -> Section:
    """Everything in environment.json."""
    if not run.has("environment.json"):
        absent = markup.absences({"Environment": "The run has written no environment.json."})
        return _section("environment", "Environment", absent)
    return _section("environment", "Environment", markup.tables(run.environment, rest="general"))


def glossary() -> Section:
    """What the words mean."""
    terms = "".join(f"<div><dt>{escape(t)}</dt><dd>{escape(d)}</dd></div>" for t, d in TERMS.items())
    return _section("glossary", "Glossary", f'<div class="card"><dl class="glossary">{terms}</dl></div>')


def _section(anchor: str, title: str, body: str, data: tuple[charts.Chart, ...] = ()) -> Section:
    return Section(anchor, title, f'<section id="{anchor}"><h2>{escape(title)}</h2>{body}</section>', data)


def _facts(run: Run, summary: Summary) -> list[str]:
    facts = []
    if summary.step is not None:
        of = f" of {summary.n_steps:,}" if summary.n_steps is not None else ""
        facts.append(f"step {summary.step:,}{of}")
    if summary.time_total is not None:
        minutes, seconds = divmod(summary.time_total, 60)
        facts.append(f"{minutes:.0f} min {seconds:.0f} s" if minutes else f"{seconds:.1f} s")
    for section, key in (("model", "kind"), ("training", "method"), ("kernel", "kind")):
        table: Any = run.config.get(section)
        if isinstance(table, dict) and table.get(key):
            facts.append(f"{section} {table[key]}")
    if run.has("checkpoints/best.npz"):
        facts.append(f"best at step {run.checkpoint('best').step:,}")
    return facts


def _live_card(live: Number | None) -> str:
    name = "Held-out log-likelihood, live"
    if live is None:
        return markup.card(name, '<p class="value none">not recorded</p>', is_first=True)
    note = f"95 % interval {markup.interval(live.estimate)}. {_whose(live)}"
    content = markup.with_error(live.estimate, "nats")
    return markup.card(name, content, note if live.estimate.value is not None else _whose(live), is_first=True)


def _exact_card(live: Number | None, exact: Number | None, is_finished: bool) -> str:
    name = "Held-out log-likelihood, exact"
    if exact is None or exact.estimate.value is None:
        note = "This model is too large to enumerate, or the exact value was not asked for."
        if not is_finished:
            note = "Computed at the end of a run, for models small enough to enumerate."
        return markup.card(name, '<p class="value none">not known</p>', note)
    decimals = markup.decimals_of(live.estimate.stderr if live is not None else None)
    value = markup.number(exact.estimate.value, decimals)
    note = _whose(exact)
    if live is not None and live.estimate.value is not None and live.estimate.stderr:
        off = live.estimate.value - exact.estimate.value
        sigma = off / live.estimate.stderr
        apart = f"{markup.number(off, decimals)} nats ({markup.number(sigma, 1)} s.e.)"
        note = f"Live minus exact is {apart}. {note}"
    return markup.card(name, f'<p class="value">{value} <span class="error">nats</span></p>', note)


def _driver_card(summary: Summary, reference: Number | None) -> str:
    name = "Held-out, driver's own (optimistic)"
    driver = summary.find("ll_heldout", "driver")
    if driver is None or driver.estimate.value is None:
        reason = "" if driver is None else escape(markup.why_withheld(driver.estimate))
        return markup.card(name, '<p class="value none">withheld</p>', reason or "The driver reports no free energy.")
    note = "Biased by the training that it drives."
    if reference is not None and reference.estimate.value is not None:
        off = driver.estimate.value - reference.estimate.value
        word = "exact" if reference.source == "exact" else "live"
        note = f"{markup.number(off)} nats off the {word} number. {note}"
    bias = summary.find("feedback_bias", "driver")
    if bias is not None and bias.estimate.value is not None:
        decimals = markup.decimals_of(bias.estimate.stderr)
        error = f" \u00b1 {markup.number(bias.estimate.stderr, decimals)}" if bias.estimate.stderr else ""
        note += f" Estimated bias of its log Z: {markup.number(bias.estimate.value, decimals)}{error} nats."
    value = markup.number(driver.estimate.value)
    return markup.card(name, f'<p class="value">{value} <span class="error">nats</span></p>', note)


def _ess_card(summary: Summary) -> str:
    name, shown = "Effective sample size", [(markup.number(ess), role) for role, ess in summary.ess.items()]
    if not shown:
        return markup.card(name, '<p class="value none">not recorded</p>')
    ess, role = shown[0]
    note = "Share of the walkers that still count." + "".join(f" The {r}'s: {e}." for e, r in shown[1:])
    return markup.card(name, f'<p class="value">{ess} <span class="error">{role}</span></p>', note)


def _whose(number: Number) -> str:
    """Whose parameters, in a sentence."""
    return f"Of the {escape(number.parameters)} parameters."


def _beside_exact(exact: Number | None, decimals: int) -> str:
    if exact is None or exact.estimate.value is None:
        return ""
    return f" Exact {markup.number(exact.estimate.value, decimals)}."


def _table(summary: Summary) -> str:
    if not summary.numbers:
        return ""
    rows = []
    digits = {n.quantity: markup.decimals_of(n.estimate.stderr) for n in summary.numbers if n.source == ""}
    for n in summary.numbers:
        e = n.estimate
        if e.value is None:
            cells = f'<td colspan="3">withheld: {escape(markup.why_withheld(e))}</td>'
        else:
            decimals = digits.get(n.quantity, markup.decimals_of(e.stderr))
            error = "0" if e.stderr == 0 else markup.number(e.stderr, decimals)
            shown = (markup.number(e.value, decimals), error, markup.interval(e))
            cells = "".join(f'<td class="number">{cell}</td>' for cell in shown)
        is_main = n.quantity == "ll_heldout" and n.source == ""
        kind = ' class="main"' if is_main else ""
        rows.append(
            f"<tr{kind}><td>{escape(n.label)}</td><td>{escape(n.origin)}</td>"
            f"{cells}<td>{escape(n.parameters)}</td><td>{escape(e.bias)}</td>"
            f'<td class="number">{markup.number(e.ess)}</td><td>{escape(e.method)}</td></tr>'
        )
    names = ("quantity", "source", "value", "s.e.", "95 % interval", "parameters", "bias", "ESS", "method")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="card scroll" style="margin-top:14px">{body}</div>'


def _walkers_figure(arrays: Archive, population: views.Population, role: str, tiles: Any) -> str:
    grid, title = views.image_grid(tiles), f"Walkers of the {role}"
    content = markup.image(grid, title, colours="gray_r", limits=views.grey_limits(tiles), kind="ink")
    n_walkers = len(arrays[f"{population}/x"])
    caption = f"{len(tiles)} of {n_walkers:,} walkers at step {arrays.step:,}; weights are not shown."
    return markup.figure(title, content, (caption,))


def _filters_figure(arrays: Archive, tiles: Any) -> str:
    limit = views.symmetric_limit(tiles)
    label = "Weights of the hidden units"
    content = markup.image(views.image_grid(tiles), label, colours="RdBu_r", limits=(-limit, limit), kind="plain")
    n_hidden = arrays["model/weights"].shape[1]
    caption = (
        f"{len(tiles)} of {n_hidden} hidden units, the largest norm first: blue negative, red positive, "
        f"full colour at {limit:.2f}. Raw parameters at step {arrays.step:,}."
    )
    return markup.figure("Filters", content, (caption,))


def _ages_figure(run: Run, shape: tuple[int, int] | None) -> list[str]:
    found = views.filters_through_ages(run.ages(), shape)
    if found is None:
        return []
    steps, tiles = found
    limit, title = views.symmetric_limit(tiles), "Filters through training"
    grid = views.image_grid(tiles, n_columns=len(tiles) // len(steps))
    content = markup.image(grid, title, colours="RdBu_r", limits=(-limit, limit), kind="plain")
    words = ", ".join(f"{step:,}" for step in steps)
    caption = f"The filters that end largest, one row for each of steps {words}; full colour at {limit:.2f}."
    return [markup.figure(title, content, (caption,))]
