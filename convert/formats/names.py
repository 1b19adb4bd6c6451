"""Names that a file chose, as messages show them."""

MAX_SHOWN = 200


def shown(name: str) -> str:
    """Return `name` on one line and not too long; characters that do not print are escaped as `repr` does it.

    A name that prints is left as it is: `shown("net.weight") == "net.weight"`, `shown("a\\x1b[2J") == "a\\\\x1b[2J"`.
    """
    text = name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}..."
    return (
        text if text.isprintable() else "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)
    )


def _escaped(letter: str) -> str:
    return repr(letter)[1:-1]
