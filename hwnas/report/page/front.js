"use strict";
// The front over any pair of costs, with intervals, limits, references and baselines.
{
  const place = document.getElementById("front-chart");
  const ORDER = report.costs.length; // the column after the costs: order of evaluation
  const objectives = report.costs.flatMap((cost, i) => (cost.objective ? [i] : []));
  const one = objectives.length < 2;
  const view = one
    ? { x: ORDER, y: objectives[0], color: "" }
    : { x: objectives[1], y: objectives[0], color: objectives.length > 2 ? objectives[2] : "" };
  const others = report.baselines.flatMap((baseline) => baseline.designs);
  const compared = [...report.front, ...report.references, ...others];

  const inOrder = () => view.x === ORDER || view.y === ORDER; // then only the run itself is shown
  const shown = () => (inOrder() ? report.evaluated : compared);
  const value = (design, column) => (column === ORDER ? design.order : design.values[column]);
  const has = (design) => value(design, view.x) !== null && value(design, view.y) !== null;
  const column = (designs, at) => designs.map((design) => value(design, at));
  const title = (at) => {
    if (at === ORDER) return "order of evaluation";
    const better = report.costs[at].direction === "min" ? "lower" : "higher";
    const { title: name } = report.costs[at];
    return page.narrow() ? name : `${name}, ${better} is better`;
  };

  // Distortions and BitOPs span decades: a linear axis would hide all but the largest.
  function wide(at) {
    const values = column(shown(), at).filter((v) => v !== null);
    const low = Math.min(...values);
    return at !== ORDER && values.length > 1 && low > 0 && Math.max(...values) / low > 50;
  }
  const log = { x: wide(view.x), y: wide(view.y) };

  // Of what is compared, and of limits near it; gray dots may lie outside.
  function range(at, isLog) {
    const scale = (v) => (isLog ? Math.log10(v) : v);
    const values = column(shown(), at).filter((v) => v !== null && (!isLog || v > 0)).map(scale);
    if (!values.length) return null;
    let [low, high] = [Math.min(...values), Math.max(...values)];
    const span = high - low || Math.abs(high) || 1;
    for (const limit of report.limits) {
      if (limit.cost !== at || (isLog && limit.bound <= 0)) continue;
      const bound = scale(limit.bound);
      if (bound > low - 0.6 * span && bound < high + 0.6 * span) {
        [low, high] = [Math.min(low, bound), Math.max(high, bound)];
      }
    }
    const pad = 0.07 * (high - low || span);
    return [low - pad, high + pad];
  }

  function dots(designs, name, marker) {
    const kept = designs.filter(has);
    return {
      type: "scatter", mode: "markers", name: page.plain(name), marker,
      x: column(kept, view.x), y: column(kept, view.y), visible: kept.length > 0,
      text: kept.map(page.hover), hovertemplate: "%{text}<extra></extra>",
    };
  }

  function bars(designs, at) {
    if (at === ORDER || !designs.some((d) => d.ends[at])) return undefined;
    const ends = (d) => d.ends[at] || [d.values[at], d.values[at]];
    return {
      type: "data", symmetric: false, thickness: 1, width: 0, color: page.color("dots"),
      array: designs.map((d) => ends(d)[1] - d.values[at]),
      arrayminus: designs.map((d) => d.values[at] - ends(d)[0]),
    };
  }

  // The designs that no other beats in this pair alone, as the staircase they span.
  function staircase(designs) {
    const sign = (at) => (at !== ORDER && report.costs[at].direction === "max" ? -1 : 1);
    const [sx, sy] = [sign(view.x), sign(view.y)];
    const by = (at, sign) => (a, b) => sign * (value(a, at) - value(b, at));
    const [byX, byY] = [by(view.x, sx), by(view.y, sy)];
    const sorted = [...designs].sort((a, b) => byX(a, b) || byY(a, b));
    let best = Infinity;
    return sorted.filter((design) => {
      const y = sy * value(design, view.y);
      if (y >= best) return false;
      best = y;
      return true;
    });
  }

  function frontTraces() {
    const kept = report.front.filter(has);
    const color = page.color("front");
    const marker = { size: 9, color, line: { width: 1, color: page.color("ground") } };
    const stairs = staircase(kept);
    if (view.color !== "") {
      const cost = report.costs[view.color];
      Object.assign(marker, {
        color: kept.map((d) => d.values[view.color]), colorscale: "Cividis", showscale: true,
        line: { width: 1.5, color },
        colorbar: {
          title: {
            text: page.plain(cost.title), font: { size: 13 },
            side: page.narrow() ? "bottom" : "right",
          },
          thickness: 10, outlinewidth: 0,
          ...(page.narrow() ? { orientation: "h", y: -0.28, yanchor: "top" } : {}),
        },
      });
    }
    const line = {
      type: "scatter", mode: "lines+markers", hoverinfo: "skip", name: one ? "best" : "front",
      x: column(stairs, view.x), y: column(stairs, view.y), marker: { size: 6, color },
      line: { color, width: inOrder() ? 0 : 1.2, shape: "hv" },
      error_x: bars(stairs, view.x), error_y: bars(stairs, view.y),
    };
    const points = {
      ...dots(kept, "", marker), customdata: kept.map((d) => d.id), showlegend: false,
    };
    return [line, points];
  }

  function traces() {
    const baselines = report.baselines.map((baseline, i) =>
      dots(inOrder() ? [] : baseline.designs, baseline.label, {
        symbol: "square", size: 7, color: page.color(`baseline-${i % 3}`),
      }));
    const known = inOrder() ? [] : report.references.filter(has);
    const references = dots(known, "references", {
      symbol: "diamond", size: 10, color: page.color("reference"),
    });
    references.customdata = known.map((d) => `reference ${d.label}`);
    const picked = page.designs.get(page.picked);
    const onChart = picked && (!inOrder() || report.front.includes(picked));
    const ring = {
      ...dots(onChart ? [picked] : [], "picked", {
        symbol: "circle-open", size: 17, color: page.color("ink"), line: { width: 2 },
      }),
      hoverinfo: "skip", hovertemplate: undefined, showlegend: false,
    };
    const gray = dots(report.evaluated, "evaluated", {
      size: 4, color: page.color("dots"), opacity: 0.45,
    });
    return [gray, ...baselines, references, ...frontTraces(), ring];
  }

  function limitLines() {
    const shapes = [];
    const annotations = [];
    const style = { color: page.color("limit"), width: 1.2, dash: "dash" };
    for (const { cost, bound, text } of report.limits) {
      const label = { text: page.plain(text), showarrow: false, font: { size: 12 } };
      const line = { type: "line", line: style };
      if (cost === view.x) {
        shapes.push({ ...line, yref: "paper", x0: bound, x1: bound, y0: 0, y1: 1 });
        const x = log.x ? Math.log10(bound) : bound;
        const [low, high] = range(view.x, log.x) || [x, x];
        const left = x > (low + high) / 2;
        const side = { xanchor: left ? "right" : "left", xshift: left ? -4 : 4 };
        annotations.push({ ...label, x, yref: "paper", y: 1, yanchor: "top", ...side });
      } else if (cost === view.y) {
        shapes.push({ ...line, xref: "paper", x0: 0, x1: 1, y0: bound, y1: bound });
        const y = log.y ? Math.log10(bound) : bound;
        annotations.push({ ...label, y, xref: "paper", x: 1, xanchor: "right", yanchor: "bottom" });
      }
    }
    return { shapes, annotations };
  }

  function draw() {
    if (!place) return;
    const axis = (at, isLog) => {
      const ends = range(at, isLog);
      const decades = isLog && ends && ends[1] - ends[0] > 3 ? { dtick: 1 } : {};
      const type = isLog ? "log" : "linear";
      const found = ends ? { range: ends, autorange: false } : { autorange: true };
      return page.axis(title(at), { type, exponentformat: "power", ...found, ...decades });
    };
    page.draw(place, traces(), page.layout({
      xaxis: axis(view.x, log.x), yaxis: axis(view.y, log.y), hovermode: "closest",
      ...limitLines(),
    }));
    const picked = page.designs.get(page.picked);
    const words = picked ? [picked.label || picked.id, picked.summary, ...picked.texts] : [];
    document.getElementById("front-picked").textContent =
      words.length ? `Picked: ${words.join(" · ")}` : "";
  }

  function controls() {
    const box = document.getElementById("front-controls");
    const names = report.costs.map((cost, i) => [i, cost.name]);
    const axes = [...names, [ORDER, "order of evaluation"]];
    const turn = (key) => (chosen) => {
      view[key] = chosen === "" ? "" : Number(chosen);
      if (key !== "color") log[key] = wide(view[key]);
      fill();
    };
    const logBox = (key) => page.check("log", log[key], (on) => { log[key] = on; draw(); });
    const colors = [["", "none"], ...names];
    const fill = () => {
      box.replaceChildren(
        page.select("vertical", axes, view.y, turn("y")), logBox("y"),
        page.select("horizontal", axes, view.x, turn("x")), logBox("x"),
        ...(names.length > 2 ? [page.select("color", colors, view.color, turn("color"))] : []),
      );
      draw();
    };
    fill();
  }

  if (place) {
    window.addEventListener("DOMContentLoaded", () => {
      controls();
      place.on("plotly_click", ({ points: [{ customdata: key }] }) => key && page.pick(key));
    });
    page.draws.push(draw);
  }
}
