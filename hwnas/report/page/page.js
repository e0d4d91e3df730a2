"use strict";
// What every chart of the page uses: the data, the design that is picked, colors, small elements.
const report = JSON.parse(document.getElementById("report-data").textContent);

const page = {
  designs: new Map(),
  picked: null,
  draws: [],

  color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  },
  // Plotly reads texts as markup; a plug-in's name must stay a name.
  plain(text) {
    return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  },
  narrow() {
    return window.innerWidth < 640;
  },
  node(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  },
  // options: [[value, text], ...], or [group, [[value, text], ...]] for a group
  select(label, options, value, change) {
    const one = ([key, text]) => page.node("option", { value: key }, text);
    const many = ([name, inner]) => page.node("optgroup", { label: name }, ...inner.map(one));
    const box = page.node("select", { "aria-label": label });
    box.append(...options.map((o) => (Array.isArray(o[1]) ? many(o) : one(o))));
    box.value = value;
    box.addEventListener("change", () => change(box.value));
    return page.node("label", {}, label, box);
  },
  check(label, checked, change) {
    const box = page.node("input", { type: "checkbox" });
    box.checked = checked;
    box.addEventListener("change", () => change(box.checked));
    return page.node("label", {}, box, label);
  },
  hover(design) {
    const name = design.label ? `${design.label} (${design.id})` : design.id;
    const lines = [design.summary, ...design.texts, ...(design.rescored || [])];
    return [`<b>${page.plain(name)}</b>`, ...lines.map(page.plain)].join("<br>");
  },
  axis(title, more) {
    return {
      title: { text: page.plain(title), standoff: 12, font: { size: 13 } },
      gridcolor: page.color("line"), linecolor: page.color("line"), zeroline: false,
      ticks: "outside", tickcolor: page.color("line"), automargin: true, ...more,
    };
  },
  layout(more) {
    const font = getComputedStyle(document.body).fontFamily;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: font, size: 13, color: page.color("ink") },
      margin: { l: 60, r: 16, t: 12, b: 48 },
      hoverlabel: {
        bgcolor: page.color("wash"), bordercolor: page.color("line"), align: "left",
        font: { family: font, size: 13, color: page.color("ink") },
      },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      modebar: {
        bgcolor: "rgba(0,0,0,0)", color: page.color("dots"), activecolor: page.color("ink"),
      },
      dragmode: page.narrow() ? false : "zoom", ...more,
    };
  },
  draw(place, traces, layout) {
    Plotly.react(place, traces, layout, {
      responsive: true, displaylogo: false, displayModeBar: page.narrow() ? false : "hover",
      plotlyServerURL: "", // plotly.js would offer to upload the chart
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    });
  },
  pick(key) {
    page.picked = key;
    for (const draw of page.draws) draw();
  },
};

report.front.forEach((design) => page.designs.set(design.id, design));
report.references.forEach((design) => page.designs.set(`reference ${design.label}`, design));
page.picked = report.selected[0] || [...page.designs.keys()][0] || null;

window.addEventListener("DOMContentLoaded", () => {
  for (const draw of page.draws) draw();
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => page.draws.forEach((draw) => draw()));
});
