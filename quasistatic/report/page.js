// Draws the charts of the page. Data: the JSON of #charts; colours: the palette in it and the variables of the style.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isTouch = matchMedia("(pointer: coarse)").matches;
  const DASHES = { line: "solid", dashed: "dash" };
  const SYMBOLS = { circle: "circle-open", diamond: "diamond" };
  let hasLogSteps = false;

  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (role) => data.palette[role][dark.matches ? 1 : 0];
  const wash = (hex, alpha) => {
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    return `rgba(${r},${g},${b},${alpha})`;
  };

  // The band of a curve: one closed outline for every stretch without a gap.
  function band(curve) {
    const x = [], y = [];
    let stretch = [];
    const close = () => {
      if (stretch.length > 1) {
        for (const i of stretch) { x.push(curve.x[i]); y.push(curve.y[i] + curve.half_width[i]); }
        for (const i of stretch.slice().reverse()) { x.push(curve.x[i]); y.push(curve.y[i] - curve.half_width[i]); }
        x.push(null); y.push(null);
      }
      stretch = [];
    };
    curve.x.forEach((_, i) => {
      if (curve.y[i] === null || curve.half_width[i] === null) close();
      else stretch.push(i);
    });
    close();
    return {
      x, y, type: "scatter", mode: "lines", line: { width: 0 }, fill: "toself", hoverinfo: "skip",
      fillcolor: wash(colour(curve.role), dark.matches ? 0.28 : 0.2), showlegend: false, legendgroup: curve.label,
    };
  }

  function curveTraces(chart) {
    const traces = [];
    for (const curve of chart.curves) {
      const ink = colour(curve.role);
      const hasBand = curve.half_width !== null;
      const shared = {
        x: curve.x, y: curve.y, name: curve.label, type: "scatter", legendgroup: curve.label,
        customdata: curve.half_width,
        hovertemplate: hasBand ? "%{y:.5~g} \u00b1 %{customdata:.2~g}" : "%{y:.5~g}",
      };
      if (curve.style === "points") {
        const marker = { symbol: SYMBOLS[curve.symbol], size: 7, color: ink, line: { width: 1.4, color: ink } };
        const bars = { type: "data", array: curve.half_width, color: ink, thickness: 1.3, width: 3, visible: hasBand };
        traces.push({ ...shared, mode: "markers", marker, error_y: bars });
      } else {
        if (hasBand) traces.push(band(curve));
        traces.push({ ...shared, mode: "lines", line: { color: ink, width: 2, dash: DASHES[curve.style] } });
      }
    }
    return traces;
  }

  function barTraces(chart) {
    return chart.bars.map((bars) => ({
      type: "bar", name: bars.label, y: bars.share, width: bars.edges.slice(1).map((e, i) => e - bars.edges[i]),
      x: bars.edges.slice(1).map((e, i) => (e + bars.edges[i]) / 2), hovertemplate: "%{y:.3f} of the walkers",
      marker: { color: wash(colour(bars.role), 0.5), line: { color: colour(bars.role), width: 1 } },
    }));
  }

  function heatTraces(chart) {
    const scale = [[0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f7f7f7"], [0.75, "#f4a582"], [1, "#b2182b"]];
    return [{
      type: "heatmap", z: chart.values, zmin: -chart.limit, zmax: chart.limit, colorscale: scale, xgap: 1, ygap: 1,
      colorbar: { thickness: 12, outlinewidth: 0, title: { text: "J<sub>ij</sub>" } },
      hovertemplate: "i = %{y}, j = %{x}: %{z:.4f}<extra></extra>", hoverongaps: false,
    }];
  }

  function scatterTraces(chart) {
    const traces = chart.clouds.map((cloud) => ({
      type: "scatter", mode: "markers", name: cloud.label, x: cloud.x, y: cloud.y,
      marker: { size: 4, color: wash(colour(cloud.role), 0.6), symbol: cloud.role === "driver" ? "circle" : "diamond" },
      hovertemplate: "(%{x:.3f}, %{y:.3f})",
    }));
    if (chart.means) {
      traces.push({
        type: "scatter", mode: "markers", name: "model's means", x: chart.means.x, y: chart.means.y,
        marker: { symbol: "cross-thin", size: 15, line: { width: 3, color: colour("exact") } },
        hovertemplate: "(%{x:.3f}, %{y:.3f})",
      });
    }
    return traces;
  }

  function layout(chart) {
    const [ink, muted, line, card] = ["--ink", "--muted", "--line", "--card"].map(variable);
    const axis = {
      gridcolor: line, linecolor: line, zeroline: false, tickfont: { color: muted, size: 11.5 },
      title: { font: { color: muted, size: 12.5 }, standoff: 8 }, automargin: true,
    };
    const titled = (text, more) => ({ ...axis, ...more, title: { ...axis.title, text } });
    const common = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 8, r: 10, t: 28, b: 8 },
      font: { family: variable("--sans"), color: ink, size: 12.5 }, dragmode: isTouch ? false : "zoom",
      legend: { orientation: "h", x: 0.5, xanchor: "center", yref: "container", y: 0, yanchor: "bottom", font: { size: 12 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: ink },
      hoverlabel: { bgcolor: card, bordercolor: line, font: { color: ink, family: variable("--sans") } },
      hovermode: "closest", showlegend: true,
    };
    if (chart.kind === "curves") {
      const steps = { type: hasLogSteps ? "log" : "linear", exponentformat: "none" };
      if (hasLogSteps) Object.assign(steps, { dtick: 1 });
      const y = chart.bounds ? { range: [chart.bounds[0] - 0.01, chart.bounds[1] + 0.03] } : {};
      if (chart.zero) Object.assign(y, { zeroline: true, zerolinecolor: muted, zerolinewidth: 1 });
      const more = { xaxis: titled("training step", steps), yaxis: titled(chart.y_label, y) };
      const isNamed = chart.curves.length > 1 || chart.curves.some((curve) => ["driver", "auditor"].includes(curve.role));
      return { ...common, ...more, hovermode: "x unified", showlegend: isNamed };
    }
    if (chart.kind === "bars") {
      const x = titled("log(weight / mean weight) [nats]", {});
      return { ...common, barmode: "overlay", bargap: 0, xaxis: x, yaxis: titled(chart.y_label, {}) };
    }
    if (chart.kind === "heat") {
      const y = titled("unit i", { autorange: "reversed", scaleanchor: "x", constrain: "domain", showgrid: false });
      return { ...common, xaxis: titled("unit j", { constrain: "domain", showgrid: false }), yaxis: y };
    }
    return { ...common, xaxis: titled("x\u2081", {}), yaxis: titled("x\u2082", { scaleanchor: "x" }) };
  }

  const TRACES = { curves: curveTraces, bars: barTraces, heat: heatTraces, scatter: scatterTraces };

  function draw() {
    for (const chart of data.charts) {
      const options = {
        responsive: true, displaylogo: false, displayModeBar: isTouch ? false : "hover",
        // Named one by one: the standard set has a button that sends the chart to a server.
        modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]], plotlyServerURL: "",
        toImageButtonOptions: { format: "svg", filename: chart.id },
      };
      Plotly.react(`chart-${chart.id}`, TRACES[chart.kind](chart), layout(chart), options);
    }
  }

  for (const button of document.querySelectorAll(".switch button")) {
    button.addEventListener("click", () => {
      hasLogSteps = button.dataset.steps === "log";
      for (const other of document.querySelectorAll(".switch button")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      draw();
    });
  }
  dark.addEventListener("change", draw);
  draw();
})();
