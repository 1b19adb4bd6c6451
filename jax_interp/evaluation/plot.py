"""The plot of an evaluation: the quality of every frame of a clip, and that of every place between two keyframes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_INCHES = (10.0, 6.5)
_DPI = 120


def plot_png(title: str, frame_psnr: Mapping[str, Sequence[Sequence[float | None]]]) -> bytes:
    """Return a PNG of the PSNR in dB by frame; `frame_psnr` has, by method and pair, that of the frames between.

    Needs matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    over_clip, by_place = figure.subplots(2, 1)
    for name, pairs in frame_psnr.items():
        values = np.array(pairs, float)  # None becomes NaN, which is not drawn
        count = values.shape[1]
        places = np.arange(1, count + 1)
        # A gap at every keyframe, which is no method's work.
        x = np.arange(len(pairs))[:, None] * (count + 1) + np.arange(count + 1)
        y = np.concatenate([np.full((len(pairs), 1), np.nan), values], axis=1)
        over_clip.plot(x.ravel(), y.ravel(), linewidth=1, label=_plain(name))
        known = ~np.isnan(values)
        there = known.any(0)
        sums = np.where(known, values, 0).sum(0)[there] / known.sum(0)[there]
        by_place.plot(places[there], sums, marker="o", markersize=4, label=_plain(name))
    over_clip.set(title=_plain(title), xlabel="frame", ylabel="PSNR (dB)")
    by_place.set(xlabel="frames after a keyframe", ylabel="mean PSNR (dB)")
    for axes in (over_clip, by_place):
        axes.grid(alpha=0.3)
    by_place.legend()
    return _png(figure)


def _plain(text: str) -> str:
    """Return text that matplotlib shows as it is: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    # Without the version of matplotlib, so that the same scores give the same file.
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()
