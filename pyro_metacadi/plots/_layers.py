"""Layered layout of a graph, from left to right: causes before their effects.

An edge that skips a layer passes it at a place of its own (a bend), so that it crosses no name.
Source: Sugiyama, Tagawa and Toda 1981, the barycentre method; places in a layer by isotonic
regression.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import networkx as nx
import numpy as np
from scipy.optimize import isotonic_regression

__all__ = ["Layout", "layered_layout"]

Place = Hashable  # a node, or a bend (parent, child, layer)

SWEEPS = 12
BEND = 0.5  # a bend's share of a line
STRAIGHT = 4.0  # weight of an edge's two bends being in line, relative to a name's wish


class Layout(NamedTuple):
    """Where everything is.

    Attributes:
        layers: The places of each layer, from the bottom up.
        height: Of every place, in lines.
        routes: Every edge's places, from parent to child.
        backward: Edges that would close a cycle, which have no route.
    """

    layers: list[list[Place]]
    height: dict[Place, float]
    routes: dict[tuple[int, int], list[Place]]
    backward: list[tuple[int, int]]


def layered_layout(edges: Sequence[tuple[int, int]]) -> Layout:
    """Lay a graph out.

    Args:
        edges: Of positions, the most important first: of a cycle, the last edge goes backward.
    """
    graph, backward = _without_cycles(edges)
    layer = _layers(graph)
    routes = {edge: _route(edge, layer) for edge in graph.edges}
    layers = _ordered(layer, routes)
    return Layout(layers, _heights(layers, routes), routes, backward)


def _without_cycles(
    edges: Sequence[tuple[int, int]],
) -> tuple[nx.DiGraph, list[tuple[int, int]]]:
    graph, backward = nx.DiGraph(), []
    graph.add_nodes_from(sorted({node for edge in edges for node in edge}))
    for parent, child in edges:
        if nx.has_path(graph, child, parent):
            backward.append((parent, child))
        else:
            graph.add_edge(parent, child)
    return graph, backward


def _layers(graph: nx.DiGraph) -> dict[int, int]:
    """As far left as causes allow, then as far right as effects do: edges are short."""
    order: list[int] = list(nx.topological_sort(graph))
    layer: dict[int, int] = {}
    for node in order:
        layer[node] = max((layer[p] + 1 for p in graph.predecessors(node)), default=0)
    for node in reversed(order):
        layer[node] = min((layer[c] - 1 for c in graph.successors(node)), default=layer[node])
    return layer


def _route(edge: tuple[int, int], layer: Mapping[int, int]) -> list[Place]:
    parent, child = edge
    bends = [(parent, child, at) for at in range(layer[parent] + 1, layer[child])]
    return [parent, *bends, child]


def _ordered(
    layer: Mapping[int, int], routes: Mapping[tuple[int, int], list[Place]]
) -> list[list[Place]]:
    """Places of each layer in an order of few crossings: neighbours' means, forth and back."""
    layers: list[list[Place]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node, at in layer.items():
        layers[at].append(node)
    for route in routes.values():
        for bend in route[1:-1]:
            layers[bend[2]].append(bend)  # type: ignore[index]
    links = nx.Graph(pair for route in routes.values() for pair in _pairs(route))
    depth = {place: at for at, places in enumerate(layers) for place in places}
    best, fewest = [list(places) for places in layers], _crossings(layers, links, depth)
    for sweep in range(SWEEPS):
        step = 1 if sweep % 2 == 0 else -1
        for at in range(len(layers))[::step]:
            beside = _positions(layers[at - step]) if 0 <= at - step < len(layers) else {}
            layers[at] = _sorted_by_neighbours(layers[at], links, beside)
        if (count := _crossings(layers, links, depth)) < fewest:
            best, fewest = [list(places) for places in layers], count
    return best


def _sorted_by_neighbours(
    places: list[Place], links: nx.Graph, beside: Mapping[Place, float]
) -> list[Place]:
    own = _positions(places)

    def mean(place: Place) -> float:
        seen = [beside[n] for n in links[place] if n in beside]
        return float(np.mean(seen)) if seen else own[place]

    return sorted(places, key=mean)


def _positions(places: Sequence[Place]) -> dict[Place, float]:
    """Relative to the layer's own size, so that layers compare."""
    return {place: (at + 0.5) / len(places) for at, place in enumerate(places)}


def _crossings(layers: list[list[Place]], links: nx.Graph, depth: Mapping[Place, int]) -> int:
    count, place = 0, {p: at for places in layers for at, p in enumerate(places)}
    for places in layers:
        ends = [(place[p], place[n]) for p in places for n in links[p] if depth[n] == depth[p] + 1]
        pairs = np.array(sorted(ends)).reshape(-1, 2)
        after = pairs[:, 0] > pairs[:, :1]
        count += int((after & (pairs[:, 1] < pairs[:, 1:])).sum())
    return count


def _heights(
    layers: list[list[Place]], routes: Mapping[tuple[int, int], list[Place]]
) -> dict[Place, float]:
    """Every place near its neighbours, in order and a line (a bend: half of one) apart."""
    links = nx.Graph(pair for route in routes.values() for pair in _pairs(route))
    height: dict[Place, float] = {}
    offsets = [_offsets(places) for places in layers]
    for places, offset in zip(layers, offsets, strict=True):
        height |= dict(zip(places, (offset - offset.mean()).tolist(), strict=True))
    for sweep in range(SWEEPS):
        step = 1 if sweep % 2 == 0 else -1
        for places, offset in list(zip(layers, offsets, strict=True))[::step]:
            wishes = [_wish(place, links, height) for place in places]
            wish, weight = np.array(wishes).T
            fitted = isotonic_regression(wish - offset, weights=weight).x + offset
            height |= dict(zip(places, fitted.tolist(), strict=True))
    return height


def _offsets(places: Sequence[Place]) -> np.ndarray:
    room = np.array([BEND if isinstance(place, tuple) else 1.0 for place in places])
    return np.cumsum((room + np.r_[0.0, room[:-1]]) / 2)


def _wish(place: Place, links: nx.Graph, height: Mapping[Place, float]) -> tuple[float, float]:
    """The mean of the neighbours' heights, and how much it counts."""
    near = list(links[place])
    weights = [STRAIGHT if isinstance(place, tuple) and isinstance(n, tuple) else 1.0 for n in near]
    return float(np.average([height[n] for n in near], weights=weights)), sum(weights)


def _pairs(route: Sequence[Place]) -> list[tuple[Place, Place]]:
    return list(pairwise(route))
