"""Rendered scenes for the demo's training: textured objects before a textured ground, under a camera that moves.

These scenes show large and small motion of every direction, zooms and rotations, which a film has few of. They are
rendered by JAX, a whole batch at once.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

GRATINGS, OBJECTS = 6, 5


class Texture(NamedTuple):
    """A sum of waves between two colours."""

    waves: Float[Array, "gratings 2"]
    """The wave vectors, in radians per unit length along x and y."""
    phases: Float[Array, " gratings"]
    weights: Float[Array, " gratings"]
    sharpness: Float[Array, ""]
    """The sharpness of the edges between light and dark: near 0 a gradient, at 8 nearly stripes."""
    colors: Float[Array, "2 3"]


@partial(jax.jit, static_argnames=("count", "height", "width", "num_frames"))
def render(key: Array, count: int, height: int, width: int, num_frames: int = 10) -> UInt8[Array, "count F Y X 3"]:
    """Render `count` scenes of `num_frames` frames, which `key` alone decides."""
    draw = partial(_scene, height=height, width=width, num_frames=num_frames)
    return jax.lax.map(draw, jax.random.split(key, count))


def _scene(key: Array, height: int, width: int, num_frames: int) -> UInt8[Array, "F Y X 3"]:
    keys = iter(jax.random.split(key, 16))
    ground = _texture(next(keys), 3.0, 40.0)
    skins = jax.vmap(lambda k: _texture(k, 4.0, 60.0))(jax.random.split(next(keys), OBJECTS))
    pan = jax.random.normal(next(keys), (2,)) * _speed(next(keys), 0.35)
    zoom = 0.25 * jax.random.normal(next(keys), ()) * _speed(next(keys), 1.0)
    turn = 0.4 * jax.random.normal(next(keys), ()) * _speed(next(keys), 1.0)
    places = jax.random.uniform(next(keys), (OBJECTS, 2), minval=-1.2, maxval=1.2) * jnp.array([width / height, 1.0])
    motions = jax.random.normal(next(keys), (OBJECTS, 2)) * 0.45
    turns = jax.random.normal(next(keys), (OBJECTS,)) * 1.2
    sizes = jax.random.uniform(next(keys), (OBJECTS, 2), minval=0.08, maxval=0.5)
    powers = jax.random.choice(next(keys), jnp.array([2.0, 2.0, 8.0]), (OBJECTS,))
    rows, columns = jnp.meshgrid(
        (2 * jnp.arange(height) + 1) / height - 1, (2 * jnp.arange(width) + 1) / height - width / height, indexing="ij"
    )
    screen = jnp.stack([columns, rows], axis=-1)

    def frame(moment: Array) -> Array:
        world = _rotate(screen, turn * moment) * jnp.exp(zoom * moment) + pan * moment

        def paint(picture: Array, item: tuple[Array, Array, Array, Array, Array, Texture]) -> tuple[Array, None]:
            place, motion, spin, size, power, skin = item
            local = _rotate(world - place - motion * moment, spin * moment)
            reach = (jnp.abs(local / size) ** power).sum(-1) ** (1 / power)
            # One pixel of the screen is 2 / height wide: the edge fades over it.
            cover = jnp.clip((1 - reach) * size.min() * height / 2 + 0.5, 0, 1)[..., None]
            return picture * (1 - cover) + _paint(skin, local) * cover, None

        items = (places, motions, turns, sizes, powers, skins)
        picture, _ = jax.lax.scan(paint, _paint(ground, world), items)
        return picture

    pictures = jax.lax.map(frame, jnp.linspace(-0.5, 0.5, num_frames))
    return jnp.round(jnp.clip(pictures, 0, 1) * 255).astype(jnp.uint8)


def _speed(key: Array, most: float) -> Array:
    """Return a speed from 0 to `most`; a third of all is 0, so that many cameras do not move in this way."""
    still, strength = jax.random.uniform(key, (2,))
    return jnp.where(still < 1 / 3, 0.0, most * strength)


def _texture(key: Array, slowest: float, fastest: float) -> Texture:
    keys = jax.random.split(key, 6)
    speeds = jnp.exp(jax.random.uniform(keys[0], (GRATINGS,), minval=jnp.log(slowest), maxval=jnp.log(fastest)))
    angles = jax.random.uniform(keys[1], (GRATINGS,), maxval=2 * jnp.pi)
    waves = speeds[:, None] * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return Texture(
        waves,
        jax.random.uniform(keys[2], (GRATINGS,), maxval=2 * jnp.pi),
        1 / jnp.sqrt(speeds),
        8 * jax.random.uniform(keys[3], ()) ** 2 + 0.5,
        jax.random.uniform(keys[4], (2, 3)),
    )


def _paint(texture: Texture, places: Float[Array, "Y X 2"]) -> Float[Array, "Y X 3"]:
    waves = (jnp.sin(places @ texture.waves.T + texture.phases) * texture.weights).sum(-1)
    share = jax.nn.sigmoid(texture.sharpness * waves / jnp.sqrt(jnp.square(texture.weights).sum()))[..., None]
    return texture.colors[0] * share + texture.colors[1] * (1 - share)


def _rotate(places: Float[Array, "Y X 2"], angle: Array) -> Float[Array, "Y X 2"]:
    x, y = places[..., 0], places[..., 1]
    return jnp.stack([x * jnp.cos(angle) - y * jnp.sin(angle), x * jnp.sin(angle) + y * jnp.cos(angle)], axis=-1)
