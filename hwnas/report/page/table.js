"use strict";
// Sorting, filtering and saving the table of the front.
{
  const table = document.getElementById("front-table");
  const body = table && table.tBodies[0];
  const rows = body ? [...body.rows] : [];
  const heads = table ? [...table.tHead.rows[0].cells] : [];
  const names = heads.map((head) => head.querySelector("button").dataset.cost);

  // Cells without a number come last either way.
  function compare(a, b, at, sign) {
    const [x, y] = [a.cells[at].dataset.value, b.cells[at].dataset.value];
    if (x === undefined && y === undefined) {
      return at === 0 ? sign * a.cells[0].innerText.localeCompare(b.cells[0].innerText) : 0;
    }
    if (x === undefined || y === undefined) return x === undefined ? 1 : -1;
    return sign * (Number(x) - Number(y));
  }

  function sort(at) {
    const sign = heads[at].getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[at].setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    body.append(...rows.sort((a, b) => compare(a, b, at, sign)));
  }

  const TESTS = {
    "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, ">": (a, b) => a > b,
  };
  function meets(row, word) {
    const found = word.match(/^(.+?)(<=|>=|<|>)(-?[\d.]+(?:e[+-]?\d+)?)$/i);
    const at = found ? names.findIndex((name) => name && name.toLowerCase() === found[1]) : -1;
    if (at < 0) return row.textContent.toLowerCase().includes(word);
    const value = row.cells[at].dataset.value;
    return value !== undefined && TESTS[found[2]](Number(value), Number(found[3]));
  }

  function filter(text, count) {
    const joined = text.toLowerCase().replace(/\s*(<=|>=|<|>)\s*/g, "$1");
    const words = joined.split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => meets(row, word));
    const left = rows.filter((row) => !row.hidden).length;
    count.textContent = words.length ? `${left} of ${rows.length}` : "";
  }

  function csv() {
    const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
    const genes = report.genes.map((gene) => gene.name);
    const lines = [["arch", ...report.costs.map((cost) => cost.title), ...genes]];
    for (const row of rows.filter((r) => !r.hidden)) {
      const design = page.designs.get(row.dataset.arch);
      lines.push([design.id, ...design.values, ...design.genes].map((v) => String(v ?? "")));
    }
    return lines.map((line) => `${line.map(quoted).join(",")}\n`).join("");
  }

  function save() {
    const link = page.node("a", { download: "front.csv" });
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.click();
    URL.revokeObjectURL(link.href);
  }

  if (table) {
    const middle = Number(rows[Math.floor(rows.length / 2)].cells[1].dataset.value);
    const better = report.costs[0].direction === "min" ? "<=" : ">=";
    const example = `${names[1]}${better}${Number(middle.toPrecision(2))}`;
    const box = page.node("input", { type: "search", placeholder: `words, or ${example}` });
    const count = page.node("span", { class: "quiet", "aria-live": "polite" });
    const button = page.node("button", { type: "button" }, "Save as CSV");
    box.addEventListener("input", () => filter(box.value, count));
    button.addEventListener("click", save);
    const label = page.node("label", {}, "filter", box);
    document.getElementById("table-controls").append(label, count, button);
    heads.forEach((head, at) => {
      head.querySelector("button").addEventListener("click", () => sort(at));
    });
    rows.forEach((row) => {
      const pick = () => page.pick(row.dataset.arch);
      row.addEventListener("click", pick);
      row.addEventListener("keydown", (event) => event.key === "Enter" && pick());
    });
    page.draws.push(() => rows.forEach((row) =>
      row.classList.toggle("picked", row.dataset.arch === page.picked)));
  }
}
