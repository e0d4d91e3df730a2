"use strict";
// One design: its genes as a map of blocks, and its costs by block beside other designs.
{
  const place = document.getElementById("design-map");
  const parts = document.getElementById("design-parts");
  const first = report.costs.findIndex((_, i) => report.front.some((d) => d.parts[i]));
  const view = { cost: first };

  const title = (design) => (design.label ? `${design.label} (${design.id})` : design.id);
  const text = (value) => (value === null ? "–" : String(value));

  // One scale for all bits, so that 4 bits look alike whatever else a layer may have.
  const bits = [...new Set(report.genes.filter((g) => g.role === "bits").flatMap((g) => g.options))]
    .sort((a, b) => a - b);

  function cell(design, position) {
    const gene = position === null ? null : report.genes[position];
    const value = gene ? design.genes[position] : null;
    if (value === null || value === undefined) return page.node("td", { class: "absent" }, "–");
    const options = gene.role === "bits" && gene.ordered ? bits : gene.options;
    const level = options.length > 1 ? options.indexOf(value) / (options.length - 1) : 0.5;
    if (!gene.ordered || level < 0) return page.node("td", { title: gene.name }, text(value));
    const style = `--level: ${level.toFixed(3)}`;
    const kind = `level${gene.role === "bits" ? " bits" : ""}${level > 0.55 ? " strong" : ""}`;
    const hint = `${gene.name} = ${value}, of ${gene.options.join(", ")}`;
    return page.node("td", { class: kind, style, title: hint }, text(value));
  }

  function map(design, grid) {
    const head = page.node("tr", {}, page.node("td", {}));
    head.append(...grid.columns.map((index) => page.node("th", { scope: "col" }, String(index))));
    const rows = grid.rows.map((row) => page.node(
      "tr", {}, page.node("th", { scope: "row" }, row.label),
      ...row.cells.map((position) => cell(design, position)),
    ));
    const table = page.node(
      "table", { class: "map" }, page.node("caption", {}, grid.title),
      page.node("thead", {}, head), page.node("tbody", {}, ...rows),
    );
    return page.node("div", { class: "scroll" }, table);
  }

  function singles(design) {
    const pairs = report.singles.map((position) => page.node(
      "div", {}, page.node("dt", {}, report.genes[position].name),
      page.node("dd", {}, text(design.genes[position])),
    ));
    return pairs.length ? [page.node("dl", { class: "genes" }, ...pairs)] : [];
  }

  // Cividis, even in lightness: blocks in order read as an order, also without color vision.
  const RAMP = [[0, 34, 78], [66, 78, 108], [125, 124, 120], [187, 173, 107], [254, 232, 56]];
  function ramp(t) {
    const at = Math.min(RAMP.length - 2, Math.floor(t * (RAMP.length - 1)));
    const rest = t * (RAMP.length - 1) - at;
    const mix = RAMP[at].map((low, i) => Math.round(low + rest * (RAMP[at + 1][i] - low)));
    return { fill: `rgb(${mix.join(",")})`, ink: t > 0.5 ? "#14171a" : "#ffffff" };
  }

  function compared() {
    const references = report.references.map((design) => `reference ${design.label}`);
    const keys = new Set([page.picked, ...report.selected, ...references]);
    const found = [...keys].map((key) => page.designs.get(key));
    return found.filter((design) => design && design.parts[view.cost]).slice(0, 8);
  }

  // In the order in which the network runs, as told by the design with the most blocks.
  function blocks(designs) {
    const lists = designs.map((design) => design.parts[view.cost]);
    const longest = [...lists].sort((a, b) => b.length - a.length);
    return [...new Set(longest.flat().map(([name]) => name))];
  }

  const short = (label) => (label.length > 36 ? `${label.slice(0, 35)}…` : label);

  function drawParts() {
    const designs = view.cost < 0 ? [] : compared();
    parts.hidden = designs.length === 0;
    if (!designs.length) return;
    const cost = report.costs[view.cost];
    const names = blocks(designs);
    // Zero-width spaces keep bars of equal labels apart.
    const bars = designs.map((d, i) => page.plain(short(d.label || d.id)) + "\u200b".repeat(i));
    const traces = names.map((name, i) => {
      const { fill, ink } = ramp(names.length > 1 ? i / (names.length - 1) : 0);
      const own = designs.map((d) => d.parts[view.cost].find((part) => part[0] === name));
      const inside = page.plain(name.replace(/^.+\.(?=\d+$)/, "")); // blocks.3 -> 3
      const hover = (part) => page.plain(`${name}: ${part[2]} ${cost.unit}, ${cost.word}`);
      return {
        type: "bar", orientation: "h", y: bars, x: own.map((part) => (part ? part[1] : null)),
        text: own.map((part) => (part ? inside : "")), textposition: "inside",
        insidetextanchor: "middle", textangle: 0, insidetextfont: { color: ink },
        hovertext: own.map((part) => (part ? hover(part) : "")),
        hovertemplate: "%{hovertext}<extra></extra>", showlegend: false,
        marker: { color: fill, line: { color: page.color("ground"), width: 1 } },
      };
    });
    parts.style.height = `${90 + 40 * designs.length}px`;
    page.draw(parts, traces, page.layout({
      barmode: "stack", bargap: 0.25, uniformtext: { minsize: 10, mode: "hide" },
      xaxis: page.axis(`${cost.title}, by block`, {}),
      yaxis: page.axis("", { autorange: "reversed", ticks: "" }),
    }));
  }

  function controls() {
    const box = document.getElementById("design-controls");
    const option = (design, key) => [key, `${title(design)}: ${design.summary}`];
    const options = [
      ["front", report.front.map((d) => option(d, d.id))],
      ["references", report.references.map((d) => option(d, `reference ${d.label}`))],
    ].filter(([, inner]) => inner.length);
    const costs = report.costs.map((cost, i) => [i, cost.name])
      .filter(([i]) => report.front.some((d) => d.parts[i]));
    const turn = (chosen) => { view.cost = Number(chosen); drawParts(); };
    box.replaceChildren(
      page.select("design", options, page.picked, page.pick),
      ...(costs.length > 1 ? [page.select("cost by block", costs, view.cost, turn)] : []),
    );
  }

  function draw() {
    const design = page.designs.get(page.picked);
    if (!place || !design) return;
    controls();
    const words = [...design.texts, ...design.rescored];
    document.getElementById("design-facts").textContent = words.join(" · ");
    place.replaceChildren(...singles(design), ...report.grids.map((grid) => map(design, grid)));
    drawParts();
  }

  page.draws.push(draw);
}
