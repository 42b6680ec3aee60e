"""A layered layout in inches: boxes of names in columns, the lines between them, the rest below."""

from collections.abc import Sequence
from typing import NamedTuple

from pyro_metacadi.plots._layers import Layout, layered_layout
from pyro_metacadi.plots._shared import text_inches

__all__ = ["BOX", "SIZE", "Placed", "placed"]

SIZE = 9.0  # of names, in points
LINE, BOX, PADDING, GAP = 0.36, 0.24, 0.16, 0.75  # inches: a name's room, its box, between layers
TURNING = 0.02  # inches between layers for each edge that turns there
LEAST_WIDTH = 4.5

Point = tuple[float, float]


class Placed(NamedTuple):
    """Where names and edges are drawn, in inches from the lower left corner.

    Attributes:
        centre: Of every name's box.
        width: Of every name's box.
        size: Width and height of the whole.
        curves: Of every edge, its points: the first, then three of each cubic Bézier curve.
        connected: Names that have an edge.
    """

    centre: dict[int, Point]
    width: dict[int, float]
    size: Point
    curves: dict[tuple[int, int], list[Point]]
    connected: set[int]


def placed(names: Sequence[str], edges: Sequence[tuple[int, int]]) -> Placed:
    """Place names in layers by their edges (the most important first), those without any below."""
    layout = layered_layout(edges)
    width = {at: text_inches(name, size=SIZE) + PADDING for at, name in enumerate(names)}
    columns, total = _columns(layout, width)
    connected = {place for places in layout.layers for place in places if isinstance(place, int)}
    total = max(total, LEAST_WIDTH)
    rows = _rows([at for at in width if at not in connected], width, total)
    heights = list(layout.height.values()) or [0.0]
    low = LINE * (len(rows) + 0.5 - min(heights)) + (0.2 if rows and connected else 0.0)
    height = {place: low + LINE * at for place, at in layout.height.items()}
    centre: dict[int, Point] = {}
    for (left, right), places in zip(columns, layout.layers, strict=True):
        centre |= {p: ((left + right) / 2, height[p]) for p in places if isinstance(p, int)}
    for number, row in enumerate(rows):
        x = 0.0
        for at in row:
            centre[at] = x + width[at] / 2, LINE * (len(rows) - number - 0.5)
            x += width[at] + PADDING
    curves = {
        (parent, child): _curve(
            (centre[parent][0] + width[parent] / 2, centre[parent][1]),
            [(columns[bend[2]], height[bend]) for bend in route[1:-1]],  # type: ignore[index]
            (centre[child][0] - width[child] / 2, centre[child][1]),
        )
        for (parent, child), route in layout.routes.items()
    }
    curves |= {edge: _arc(*(centre[node] for node in edge)) for edge in layout.backward}
    top = max((y for points in curves.values() for _, y in points), default=0.0)
    top = max(top, *(y for _, y in centre.values())) + LINE / 2
    return Placed(centre, width, (total, top), curves, connected)


def _columns(layout: Layout, width: dict[int, float]) -> tuple[list[Point], float]:
    """Left and right end of every layer, as wide as its widest name, and the width of all."""
    columns, x = [], 0.0
    for places in layout.layers:
        wide = max(width[p] for p in places if isinstance(p, int))
        columns.append((x, x + wide))
        x += wide + GAP + TURNING * len(places)
    return columns, columns[-1][1] if columns else 0.0


def _rows(nodes: Sequence[int], width: dict[int, float], total: float) -> list[list[int]]:
    """The nodes side by side, in rows that are no wider than `total` unless one name is."""
    rows: list[list[int]] = []
    used = total
    for node in nodes:
        if used + width[node] > total:
            rows.append([])
            used = 0.0
        rows[-1].append(node)
        used += width[node] + PADDING
    return rows


def _curve(start: Point, bends: Sequence[tuple[Point, float]], end: Point) -> list[Point]:
    """From box to box, level where it leaves, arrives, and passes a layer."""
    points = [start]
    for (left, right), y in [*bends, ((end[0], end[0]), end[1])]:
        x, before = points[-1]
        middle = (x + left) / 2
        points += [(middle, before), (middle, y), (left, y)]
        if right > left:
            points += [(left, y), (right, y), (right, y)]
    return points


def _arc(start: Point, end: Point) -> list[Point]:
    """From the top of one box to that of another, over what is between."""
    top = max(start[1], end[1]) + 2 * LINE
    return [
        (start[0], start[1] + BOX / 2),
        (start[0], top),
        (end[0], top),
        (end[0], end[1] + BOX / 2),
    ]
