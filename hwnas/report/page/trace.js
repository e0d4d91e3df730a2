"use strict";
// Hypervolume over evaluations.
{
  const place = document.getElementById("trace-chart");
  const dashes = ["solid", "dash", "dot", "dashdot"];
  const color = (i) => page.color(i === 0 ? "front" : `baseline-${(i - 1) % 3}`);

  if (place) page.draws.push(() => {
    const traces = report.hypervolume.map((trace, i) => ({
      type: "scatter", mode: "lines", name: page.plain(trace.label), x: trace.x, y: trace.y,
      line: { color: color(i), width: 2, dash: dashes[i % dashes.length], shape: "hv" },
      hovertemplate: `%{y:.4g} after %{x:,} evaluations<extra>${page.plain(trace.label)}</extra>`,
      showlegend: report.hypervolume.length > 1,
    }));
    page.draw(place, traces, page.layout({
      xaxis: page.axis("evaluations", { rangemode: "tozero" }),
      yaxis: page.axis("hypervolume", {}),
      hovermode: "closest",
    }));
  });
}
