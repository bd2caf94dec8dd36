"""The drawn graph: every line leads down, nothing stands on anything else, and what belongs together lines up."""

from __future__ import annotations

import random
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convfold.errors import InvalidArgument
from convfold.report.graph_layers import NODE_HEIGHT, NODE_WIDTH, layered, spread
from convfold.report.graph_layout import Drawing, aligned, bands, drawing, hulls
from convfold.report.graph_routes import path

from .graph_examples import explanation, single


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(0, 24))
    pairs = st.tuples(st.integers(0, 23), st.integers(0, 23)).filter(lambda pair: pair[0] < pair[1] < count)
    edges = draw(st.lists(pairs, max_size=50)) if count > 1 else []
    # Neither the order of the ids nor that of the list is the order of the values.
    names = draw(st.permutations(range(count)))
    nodes = [
        {"id": names[k], "module": f"m.{k // 4}", "region": draw(st.sampled_from([None, 1, 2]))} for k in range(count)
    ]
    return {"nodes": draw(st.permutations(nodes)), "edges": [[names[a], names[b]] for a, b in edges]}


def check(graph: dict[str, Any], drawn: Drawing) -> None:
    """The invariants of a drawing."""
    assert set(drawn.places) == {node["id"] for node in graph["nodes"]}
    boxes = sorted((y, x) for x, y in drawn.places.values())
    for (y, x), (v, u) in pairwise(boxes):
        assert v - y >= NODE_HEIGHT or u - x >= NODE_WIDTH, "two nodes overlap"
    assert all(x >= 0 and x + NODE_WIDTH <= drawn.width for x, _ in drawn.places.values())
    assert all(y >= 0 and y + NODE_HEIGHT <= drawn.height for _, y in drawn.places.values())
    assert set(drawn.lines) == {(a, b) for a, b in graph["edges"]}
    for (start, end), line in drawn.lines.items():
        (ax, ay), (bx, by) = drawn.places[start], drawn.places[end]
        assert line[0] == (ax + NODE_WIDTH / 2, ay + NODE_HEIGHT)
        assert line[-1] == (bx + NODE_WIDTH / 2, by)
        assert ay + NODE_HEIGHT < by, "an edge does not lead down"
        for (x0, y0), (x1, y1) in pairwise(line):
            assert y0 <= y1
            assert x0 == x1 or y0 == y1, "a slanting line"
            assert 0 <= x1 <= drawn.width
            for x, y in drawn.places.values():
                over = min(x0, x1) < x + NODE_WIDTH and x < max(x0, x1) and y0 < y + NODE_HEIGHT and y < y1
                assert not over, "a line runs through a node"
                if x0 == x1:
                    assert not (x < x0 < x + NODE_WIDTH and y0 < y + NODE_HEIGHT and y < y1), "a line through a node"


@given(graphs())
def test_random_graphs_keep_the_invariants(graph: dict[str, Any]) -> None:
    check(graph, drawing(graph))


@given(graphs(), graphs())
def test_an_aligned_graph_keeps_them_too(before: dict[str, Any], after: dict[str, Any]) -> None:
    check(after, aligned(after, before, drawing(before)))


@pytest.mark.parametrize("blocks", [1, 5])
def test_a_network_keeps_them(blocks: int) -> None:
    graphs = explanation(blocks)["graphs"]
    drawn = drawing(graphs["before"])
    check(graphs["before"], drawn)
    check(graphs["after"], aligned(graphs["after"], graphs["before"], drawn))


def test_a_single_node_and_none() -> None:
    check(single()["graphs"]["before"], drawing(single()["graphs"]["before"]))
    empty: dict[str, Any] = {"nodes": [], "edges": []}
    assert drawing(empty).places == {}
    assert aligned(empty, empty, drawing(empty)).lines == {}
    assert bands(empty, drawing(empty)) == []
    assert hulls(empty, drawing(empty)) == []


def test_the_same_graph_is_drawn_the_same_whatever_the_order_of_its_edges() -> None:
    graph = explanation(2)["graphs"]["before"]
    shuffled = {**graph, "edges": random.Random(0).sample(graph["edges"], len(graph["edges"]))}
    assert drawing(graph) == drawing(graph)
    assert drawing(shuffled).height == drawing(graph).height


def test_a_chain_is_straight_and_a_residual_edge_runs_beside_it() -> None:
    nodes = [{"id": k} for k in range(5)]
    drawn = drawing({"nodes": nodes, "edges": [[0, 1], [1, 2], [2, 3], [3, 4], [0, 4]]})
    assert len({x for x, _ in drawn.places.values()}) == 1
    assert all(len(drawn.lines[k, k + 1]) == 2 for k in range(4))
    lane = max(x for x, _ in drawn.lines[0, 4])
    assert lane > drawn.places[2][0] + NODE_WIDTH


def test_a_values_long_edges_share_a_lane_and_nested_ones_do_not() -> None:
    nodes = [{"id": k} for k in range(7)]
    chain = [[k, k + 1] for k in range(6)]
    drawn = drawing({"nodes": nodes, "edges": [*chain, [0, 3], [0, 6], [1, 4]]})
    lane = {edge: max(x for x, _ in drawn.lines[edge]) for edge in [(0, 3), (0, 6), (1, 4)]}
    assert lane[0, 3] == lane[0, 6] > lane[1, 4]


def test_a_long_network_does_not_wander_off() -> None:
    short, long = (drawing(explanation(blocks)["graphs"]["before"]) for blocks in (2, 12))
    assert long.width <= short.width * 1.2


def test_a_region_stands_at_its_own_height_after_the_fold() -> None:
    graphs = explanation(6)["graphs"]
    drawn = drawing(graphs["before"])
    after = aligned(graphs["after"], graphs["before"], drawn)
    for node in graphs["after"]["nodes"]:
        if node["text"] == "conv 3x3" or node["text"] == "1x1":
            heights = [drawn.places[n["id"]][1] for n in graphs["before"]["nodes"] if n["region"] == node["region"]]
            assert min(heights) <= after.places[node["id"]][1] <= max(heights)
    last = [(graphs[side]["nodes"][-1]["id"], side) for side in ("before", "after")]
    assert after.places[last[1][0]][1] == pytest.approx(drawn.places[last[0][0]][1], abs=2 * NODE_HEIGHT)


def test_a_thousand_operators_take_less_than_two_seconds() -> None:
    graphs = explanation(42)["graphs"]
    assert len(graphs["before"]["nodes"]) > 1400
    start = time.process_time()
    drawn = drawing(graphs["before"])
    aligned(graphs["after"], graphs["before"], drawn)
    bands(graphs["before"], drawn)
    hulls(graphs["before"], drawn)
    assert time.process_time() - start < 2


def test_bands_are_disjoint_and_named_by_their_modules() -> None:
    graph = explanation(14)["graphs"]["before"]
    found = bands(graph, drawing(graph))
    names = [band.name for band in found]
    assert names[0] == "x"
    assert names[-1] == "head"
    assert {"stages.0.0.conv_dw", "stages.0.11.se", "stages.1.1.conv_pw"} <= set(names)
    assert len(found) < len(graph["nodes"]) / 5
    assert all(above.bottom <= below.top for above, below in pairwise(found))


def test_a_band_of_interleaved_children_is_one() -> None:
    nodes = [{"id": k, "module": f"a.{'bc'[k % 2]}.{k}"} for k in range(60)]
    drawn = drawing({"nodes": nodes, "edges": [[k, k + 1] for k in range(59)]})
    assert [band.name for band in bands({"nodes": nodes}, drawn)] == ["a"]


def test_a_hull_is_drawn_only_where_no_other_node_stands_in_it() -> None:
    nodes = [{"id": 0, "region": 1}, {"id": 1, "region": 1}, {"id": 2, "region": None}, {"id": 3, "region": 2}]
    nodes += [{"id": 4, "region": None}, {"id": 5, "region": 2}]
    graph = {"nodes": nodes, "edges": [[k, k + 1] for k in range(5)]}
    drawn = drawing(graph)
    [hull] = hulls(graph, drawn)
    assert hull.region == 1
    for node in (0, 1):
        x, y = drawn.places[node]
        assert hull.x < x
        assert hull.y < y
        assert x + NODE_WIDTH < hull.x + hull.width
        assert y + NODE_HEIGHT < hull.y + hull.height


def test_places_are_the_nearest_that_keep_their_distance() -> None:
    assert spread([0, 0, 0], [2, 2]) == [-2, 0, 2]
    assert spread([0, 10, 11], [2, 2]) == [0, 9.5, 11.5]
    assert spread([5, 0], [1], [1e9, 1]) == pytest.approx([5, 6])


def test_a_corner_is_rounded_and_a_straight_line_is_one() -> None:
    assert path([(0, 0), (0, 9)]) == "M0 0L0 9"
    assert path([(0, 0), (0, 20), (30, 20), (30, 40)]) == "M0 0L0 14Q0 20 6 20L24 20Q30 20 30 26L30 40"


def test_a_repeated_edge_is_one() -> None:
    assert layered([0, 1], [[0, 1], [0, 1]]).edges == ((0, 1),)


def test_an_edge_to_nowhere_and_a_cycle_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"node that is not in the graph: got 0 -> 7. List each end"):
        layered([0, 1], [[0, 1], [0, 7]])
    with pytest.raises(InvalidArgument, match=r"graph page: the graph has a cycle: got node 1. Edges go from a value"):
        layered([0, 1, 2], [[0, 1], [1, 2], [2, 1]])
