"""Shaded shapes gliding over a soft background, in numpy: clips whose in-between frames are known exactly."""

from dataclasses import dataclass

import numpy as np

COLOURS = {
    "red": (0.82, 0.16, 0.14), "orange": (0.93, 0.52, 0.12), "yellow": (0.95, 0.83, 0.22), "green": (0.20, 0.62, 0.28),
    "teal": (0.10, 0.60, 0.62), "blue": (0.18, 0.34, 0.80), "violet": (0.52, 0.28, 0.72), "white": (0.92, 0.92, 0.90),
}  # fmt: skip
LIGHT = np.array([-0.45, -0.60, 0.66], np.float32)
"""Direction to the light: left, up, towards the eye."""
STEPS_A_PAIR = 9
"""Fine time steps from one keyframe to the next."""


@dataclass(frozen=True)
class Shape:
    """A ball or a box. Lengths are in picture heights, speeds in heights a keyframe interval, y points down."""

    kind: str
    colour: str
    start: tuple[float, float]
    speed: tuple[float, float]
    radius: float
    angle: float = 0.0
    spin: float = 0.0


@dataclass(frozen=True)
class Scene:
    ground: tuple[str, str]
    """Colours of the background's upper left and lower right."""
    shapes: tuple[Shape, ...]
    ripple: tuple[float, float, float] = (1.3, 0.7, 0.2)
    """Waves a height along x and y, and their phase, of the background's brightness."""

    def caption(self) -> str:
        things = " and ".join(f"a {shape.colour} {shape.kind}" for shape in self.shapes)
        return f"{things} move over {self.ground[0]} and {self.ground[1]} ground."

    def frame(self, time: float, height: int, width: int) -> np.ndarray:
        """The picture at `time` (in keyframe intervals), uint8 `[Y, X, 3]`."""
        y, x = np.mgrid[:height, :width].astype(np.float32) / height + 0.5 / height
        picture = self._background(x, y)
        for shape in self.shapes:
            middle = [int((at + v * time) * height) for at, v in zip(shape.start, shape.speed, strict=True)]
            reach = int(2 * shape.radius * height) + 2
            columns, rows = (slice(max(0, m - reach), max(0, m + reach)) for m in middle)
            picture[rows, columns] = _paint(picture, shape, time, x, y, pixel=1 / height, window=(rows, columns))
        return np.round(picture.clip(0, 1) * 255).astype(np.uint8)

    def clip(self, times: np.ndarray, height: int, width: int) -> np.ndarray:
        """uint8 `[F, Y, X, 3]`."""
        return np.stack([self.frame(float(time), height, width) for time in times])

    def _background(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        first, second = (0.25 + 0.5 * np.array(COLOURS[name], np.float32) for name in self.ground)
        blend = ((x + y) / (x.max() + y.max()))[..., None]
        along_x, along_y, phase = self.ripple
        wave = np.sin(2 * np.pi * (along_x * x + phase)) * np.sin(2 * np.pi * (along_y * y + phase))
        return first * (1 - blend) + second * blend + 0.06 * wave[..., None]


def _paint(picture, shape: Shape, time: float, x, y, pixel: float, window: tuple[slice, slice]) -> np.ndarray:
    picture, x, y = picture[window], x[window], y[window]
    dx = (x - shape.start[0] - shape.speed[0] * time) / shape.radius
    dy = (y - shape.start[1] - shape.speed[1] * time) / shape.radius
    softness = 1.5 * pixel / shape.radius
    shadow = _coverage(_ball_distance(dx - 0.25, dy - 0.35), 0.5) * 0.35
    picture = picture * (1 - shadow[..., None])
    if shape.kind == "ball":
        distance = _ball_distance(dx, dy)
        depth = np.sqrt(np.clip(1 - dx**2 - dy**2, 0, 1))
        light = np.clip(dx * LIGHT[0] + dy * LIGHT[1] + depth * LIGHT[2], 0, 1)
        gloss = light**24
    else:
        angle = shape.angle + shape.spin * time
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        distance = np.maximum(abs(u), abs(v)) - 0.8
        light, gloss = 0.75 - 0.3 * (abs(u) > 0.5) + 0.15 * v, np.zeros_like(u)
    colour = np.array(COLOURS[shape.colour], np.float32) * (0.3 + 0.8 * light[..., None]) + 0.5 * gloss[..., None]
    cover = _coverage(distance, softness)[..., None]
    return picture * (1 - cover) + colour * cover


def _ball_distance(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    return np.sqrt(dx**2 + dy**2) - 1


def _coverage(distance: np.ndarray, softness: float) -> np.ndarray:
    """1 inside, 0 outside, smooth over `softness` around distance 0."""
    ramp = np.clip(0.5 - distance / softness, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def random_scene(rng: np.random.Generator, aspect: float) -> Scene:
    """One to three shapes that are in the picture for the keyframe interval [0, 1]."""
    names = list(COLOURS)
    shapes = []
    for _ in range(rng.integers(1, 4)):
        speed = rng.uniform(-0.16, 0.16, 2)
        middle = rng.uniform((0.1, 0.1), (aspect - 0.1, 0.9))
        shapes.append(
            Shape(
                kind=str(rng.choice(["ball", "box"])),
                colour=str(rng.choice(names)),
                start=tuple(middle - speed / 2),
                speed=tuple(speed),
                radius=float(rng.uniform(0.10, 0.28)),
                angle=float(rng.uniform(0, np.pi)),
                spin=float(rng.uniform(-0.5, 0.5)),
            )
        )
    ground = tuple(str(name) for name in rng.choice(names, 2, replace=False))
    return Scene(ground, tuple(shapes), tuple(rng.uniform(0.1, 1.6, 3)))  # type: ignore[arg-type]


DEMO_SCENE = Scene(
    ground=("teal", "violet"),
    shapes=(
        Shape("box", "blue", start=(1.25, 0.30), speed=(-0.09, 0.03), radius=0.20, angle=0.3, spin=0.22),
        Shape("ball", "orange", start=(0.28, 0.72), speed=(0.11, -0.05), radius=0.19),
        Shape("ball", "white", start=(0.95, 0.80), speed=(-0.06, -0.02), radius=0.11),
    ),
)
"""The scene of the committed clip; drawn from the training distribution's family, not from its seeds."""
DEMO_FRAMES = 9
