"""What a video file holds beside its pictures, carried over to the output: sound, subtitles, chapters and metadata."""

import io
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from jax_interp.errors import MediaError, UsageError
from jax_interp.media.video.codecs import ANIMATIONS, MUXERS
from jax_interp.media.video.container import decoding_errors, open_input
from jax_interp.media.video.streams.metadata import carried, find_lost
from jax_interp.media.video.streams.sound import Stretcher
from jax_interp.media.video.streams.sound_settings import Audio
from jax_interp.media.video.streams.subtitles import CONVERTIBLE, KINDS, SubtitleConverter

logger = logging.getLogger("jax_interp")

_SEEK_MARGIN = Fraction(10)
"""Seconds before the used part at which a long file is read from; streams are not interleaved more coarsely."""

_BEFORE = 3
"""A packet is carried if as many as this, counted from it, reach into the used part: decoders need those before the
first one that is heard, and the container says that they are not to be heard."""


@dataclass(frozen=True)
class StreamPlan:
    """What is carried over of a file's streams, and how."""

    path: Path
    begin: Fraction
    """Where the used part begins on the file's clock, in seconds; that is the output's time 0."""
    end: Fraction | float
    """Where it ends; infinity if it is the end of the input, where sound may last a little longer than pictures."""
    slowed: Fraction
    """How many times as long the output lasts."""
    suffix: str
    """The suffix of the output."""
    copied: tuple[int, ...]
    """The indices of the streams whose packets are copied; of subtitles with their times stretched."""
    encoded: tuple[int, ...]
    """The indices of the sound's streams that are decoded, stretched if need be, and encoded as AAC."""
    rewritten: tuple[int, ...]
    """The indices of the streams of subtitles whose texts are written anew as the kind that the container takes."""
    said: dict[str, Any]
    """What the record says."""


def plan_streams(
    path: Path, audio: Audio, span: tuple[Fraction, Fraction | float], slowed: Fraction, suffix: str
) -> StreamPlan:
    """Return what is carried over from the video `path` to an output that ends in `suffix`; says what is not.

    `span` is the used part on the file's own clock, in seconds; its end is infinity if it is the end of the input.

    Raises:
        UsageError: the sound cannot be carried over as `audio` asks.
    """
    if audio in ("stretch", "encode") and suffix in ANIMATIONS:
        raise UsageError(f"--audio {audio}: a {suffix[1:]} has no sound; write .mp4, or leave the option out")
    copied, encoded, rewritten, dropped = [], [], [], []
    taken = _codecs_of(suffix)
    with open_input(path) as container:
        sounds = [stream for stream in container.streams if stream.type == "audio"]
        if audio == "stretch" and not sounds:
            raise UsageError(f"--audio stretch: {path} has no sound; leave the option out")
        for stream in container.streams:
            name = stream.codec_context.name if stream.codec_context else "unknown"
            if stream.type == "audio":
                how = _sound(path, audio, slowed, name, name in taken, suffix)
                copied += [stream.index] if how == "copied" else []
                encoded += [stream.index] if how in ("encoded", "stretched") else []
                dropped += [] if how else [f"sound ({name})"]
            elif stream.type == "subtitle" and name in taken:
                copied.append(stream.index)
            elif stream.type == "subtitle" and name in CONVERTIBLE and suffix in KINDS:
                rewritten.append(stream.index)
            elif stream.type != "video" and not (stream.type == "data" and container.chapters()):
                dropped.append(f"{stream.type} ({name})")
        num_videos = sum(stream.type == "video" for stream in container.streams)
        dropped += ["chapters"] if suffix in ANIMATIONS and container.chapters() else []
        dropped += ["further video streams"] if num_videos > 1 else []
        dropped += find_lost(carried(container.metadata), _languages(container, copied + encoded + rewritten), suffix)
        said = {
            "copied": [_named(container.streams[index]) for index in copied],
            "encoded_as_aac": [_named(container.streams[index]) for index in encoded],
            "rewritten": [f"{_named(container.streams[index])} as {KINDS[suffix]}" for index in rewritten],
            "dropped": dropped,
        }
    if rewritten:
        logger.info("%s: without their fonts and places: %s", path, ", ".join(said["rewritten"]))
    if dropped:
        logger.info("%s: not carried over: %s", path, ", ".join(dropped))
    return StreamPlan(path, *span, slowed, suffix, tuple(copied), tuple(encoded), tuple(rewritten), said)


def _sound(path: Path, audio: Audio, slowed: Fraction, name: str, is_taken: bool, suffix: str) -> str | None:
    """Return how a stream of sound is carried over, None if it is dropped."""
    if audio == "off" or suffix in ANIMATIONS:
        return None
    if slowed != 1:
        if audio == "stretch":
            return "stretched"
        logger.info(
            "%s: its sound is dropped, as the output lasts %.3g times as long; --audio stretch fits it to that",
            path,
            slowed,
        )
        return None
    if is_taken:
        return "copied"
    if audio == "encode":
        return "encoded"
    raise UsageError(
        f"{path}: its sound is {name}, which {suffix.lstrip('.')} does not take; --audio encode makes AAC of it,"
        " --audio off leaves it out"
    )


def _languages(container: Any, indices: list[int]) -> list[str]:
    found = (container.streams[index].metadata.get("language", "und") for index in indices)
    return [language for language in found if language != "und"]


def _named(stream: Any) -> str:
    language = stream.metadata.get("language", "und")
    return f"{stream.type} {stream.codec_context.name} ({language})"


def _codecs_of(suffix: str) -> frozenset[str]:
    """Return the names of the codecs that a container takes."""
    import av

    with av.open(io.BytesIO(), "w", format=MUXERS[suffix]) as container:
        return frozenset(container.supported_codecs)


class CarriedStreams:
    """Carries the streams of a plan into an output while its pictures are written.

    ```python
    carried.begin(container)         # before the first packet
    carried.mux_until(seconds)       # again and again, as the pictures advance
    carried.finish()
    carried.close()                  # also after an error
    ```
    """

    def __init__(self, plan: StreamPlan):
        self._plan = plan
        self._stack = ExitStack()
        self._output: Any = None
        self._targets: dict[int, Any] = {}
        self._stretchers: dict[int, Stretcher] = {}
        self._converters: dict[int, SubtitleConverter] = {}
        self._packets: Iterator[tuple[Fraction, Any]] = iter(())
        self._time = Fraction(-1)

    def begin(self, output: Any) -> None:
        """Add the streams, chapters and metadata to the container `output`, which is open for writing."""
        plan = self._plan
        self._output = output
        source: Any = self._stack.enter_context(open_input(plan.path))
        output.metadata.update(carried(source.metadata))
        if chapters := list(_chapters(source.chapters(), plan)):
            output.set_chapters(chapters)
        self._add_targets(source, output)
        for index, target in self._targets.items():
            target.metadata.update(carried(source.streams[index].metadata))
        self._packets = self._read(source) if self._targets else iter(())

    def _add_targets(self, source: Any, output: Any) -> None:
        """Add a stream to the output for each one that is carried."""
        plan = self._plan
        for index in plan.copied:
            self._targets[index] = output.add_stream_from_template(source.streams[index])
        for index in plan.encoded:
            self._stretchers[index] = Stretcher(output, source.streams[index], plan.begin, plan.end, plan.slowed)
            self._targets[index] = self._stretchers[index].target
        for index in plan.rewritten:
            self._converters[index] = SubtitleConverter(output, source.streams[index], KINDS[plan.suffix])
            self._targets[index] = self._converters[index].target

    def mux_until(self, seconds: Fraction) -> None:
        """Write what belongs before `seconds` of the output."""
        while self._time < seconds:
            found = next(self._packets, None)
            if found is None:
                return
            self._time, packet = max(self._time, found[0]), found[1]
            self._output.mux(packet)

    def finish(self) -> None:
        """Write what is left."""
        for _, packet in self._packets:
            self._output.mux(packet)

    def close(self) -> None:
        """Close the file that is read."""
        self._stack.close()

    def _read(self, source: Any) -> Iterator[tuple[Fraction, Any]]:
        """Yield (time in the output, packet) in the order of the file."""
        plan = self._plan
        if plan.begin > 2 * _SEEK_MARGIN:
            source.seek(int((plan.begin - _SEEK_MARGIN) * 1_000_000))
        try:
            for packet in source.demux([source.streams[index] for index in self._targets]):
                if packet.pts is None or packet.dts is None:
                    continue
                time = packet.pts * packet.time_base
                if time > plan.end + _SEEK_MARGIN:
                    break
                index = packet.stream.index
                if index in self._stretchers:
                    yield from self._stretchers[index].feed(packet)
                elif time < plan.end and time + _reach(packet) > plan.begin:
                    moving = self._converters[index].convert(packet) if index in self._converters else packet
                    if moving is not None:
                        yield (time - plan.begin) * plan.slowed, _moved(moving, self._targets[index], plan)
            for stretcher in self._stretchers.values():
                yield from stretcher.flush()
        except decoding_errors() as error:
            raise MediaError(
                f"{plan.path}: its sound or subtitles cannot be read ({error}); repair the file, or give --audio off"
            ) from error


def _reach(packet: Any) -> Fraction:
    """Return how many seconds before the used part a packet may begin that is carried."""
    lengths = 1 if packet.stream.type == "subtitle" else _BEFORE
    return lengths * (packet.duration or 0) * packet.time_base


def _moved(packet: Any, target: Any, plan: StreamPlan) -> Any:
    """Return a packet for the stream `target`, with its times on the output's clock and its content as it is.

    A subtitle that is shown when the used part begins is shown from then on, and one that is shown when it ends until
    then: longer than its pictures an output would stand still.
    """
    base = packet.time_base
    pts, dts = (round((each * base - plan.begin) * plan.slowed / base) for each in (packet.pts, packet.dts))
    duration = round((packet.duration or 0) * plan.slowed)
    if target.type == "subtitle":
        pts, dts, duration = max(pts, 0), max(dts, 0), duration + min(pts, 0)
        if plan.end != math.inf:
            duration = max(1, min(duration, round((plan.end - plan.begin) * plan.slowed / base) - pts))
    packet.stream = target
    packet.pts, packet.dts, packet.duration, packet.time_base = pts, dts, duration, base
    return packet


def _chapters(chapters: list[dict[str, Any]], plan: StreamPlan) -> Iterator[dict[str, Any]]:
    """Yield the chapters of the used part, on the output's clock."""
    for chapter in chapters:
        base = Fraction(chapter["time_base"])
        begin, end = (min(max(chapter[side] * base, plan.begin), plan.end) for side in ("start", "end"))
        if begin < end:
            times = {
                side: round((time - plan.begin) * plan.slowed / base) for side, time in (("start", begin), ("end", end))
            }
            yield {**chapter, **times}
