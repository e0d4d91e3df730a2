"""A picture of a front, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.search.front import ParetoFront

__all__ = ["plot_front"]


def plot_front(front: ParetoFront) -> Any:
    """Return a plotly figure: first objective across, second up, third as color.

    Intervals are error bars; hovering shows the arch id. A front of one objective is drawn over the
    rank of its designs.
    """
    import plotly.graph_objects as go

    objectives = [column for column in front.columns if column.objective]
    labels = [f"{column.name} [{column.unit}] ({column.fidelity})" for column in objectives]
    x, y = front.values[:, 0].tolist(), front.values[:, min(1, len(objectives) - 1)].tolist()
    if len(objectives) == 1:
        labels, x = ["design", labels[0]], list(range(len(front)))
    marker: dict[str, Any] = {"size": 9}
    if len(objectives) > 2:
        marker.update(
            color=front.values[:, 2], showscale=True, colorbar={"title": {"text": labels[2]}}
        )
    trace = go.Scatter(x=x, y=y, mode="markers", marker=marker, text=list(front.ids))
    figure = go.Figure(trace)
    figure.update_layout(xaxis_title=labels[0], yaxis_title=labels[1], template="plotly_white")
    return figure
