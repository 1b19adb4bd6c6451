"""What becomes of an input's sound. Imports no numpy."""

from typing import Literal, TypeAlias

Audio: TypeAlias = Literal["auto", "stretch", "encode", "off"]
"""`auto` copies the packets where the duration stays and drops the sound where it does not; `stretch` fits it to the
output's duration without changing its pitch, and `encode` makes AAC of it where the duration stays; `off` drops it."""
