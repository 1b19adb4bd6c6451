"""Sentences about imagined scenes, from which the demo's text encoder has its vocabulary."""

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "violet", "white")


def random_caption(rng: np.random.Generator, aspect: float) -> str:
    """Return a sentence about one to three shapes over a ground of two colours; `aspect` is width over height.

    More random numbers are drawn than the sentence needs: the vocabulary in the repository was counted from captions of
    whole scenes, with places, speeds and sizes, and the same seed has to give the same captions.
    """
    things = []
    for _ in range(rng.integers(1, 4)):
        rng.uniform(-0.16, 0.16, 2)
        rng.uniform((0.1, 0.1), (aspect - 0.1, 0.9))
        kind, colour = str(rng.choice(["ball", "box"])), str(rng.choice(COLOURS))
        rng.uniform(size=3)
        things.append(f"a {colour} {kind}")
    ground = rng.choice(COLOURS, 2, replace=False)
    rng.uniform(0.1, 1.6, 3)
    return f"{' and '.join(things)} move over {ground[0]} and {ground[1]} ground."
