"""Deinterlacing with libavfilter's bwdif: as many frames come out as went in."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any


def deinterlaced(frames: Iterable[Any]) -> Iterator[Any]:
    """Yield decoded frames with those that are interlaced made whole; from the first one on they come one later."""
    graph = None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        graph = graph or _build(frame)
        graph.push(frame)
        yield from _pulled(graph)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph)


def _build(frame: Any) -> Any:
    import av.filter

    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format.name, time_base=frame.time_base or None
        ),
        graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
        graph.add("buffersink"),
    ]
    for upstream, downstream in pairwise(nodes):
        upstream.link_to(downstream)
    graph.configure()
    return graph


def _pulled(graph: Any) -> Iterator[Any]:
    import av.error

    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
