"""The tokens that stand for a picture in a prompt of Pixtral."""

from typing import Generic, NamedTuple, TypeVar

TokenT = TypeVar("TokenT", int, str)


class PictureTokens(NamedTuple, Generic[TokenT]):
    """The tokens that stand for a picture in a prompt, as ids or as names."""

    patch: TokenT
    row_break: TokenT
    end: TokenT


TOKEN_NAMES = PictureTokens(patch="[IMG]", row_break="[IMG_BREAK]", end="[IMG_END]")
"""Names of the tokens in Pixtral's vocabulary."""
