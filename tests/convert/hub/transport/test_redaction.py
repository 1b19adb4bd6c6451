import logging
from urllib.parse import quote

import pytest

from convert.hub.transport.redaction import Redaction

TOKEN = "hf_Ab1-+/="


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        TOKEN.upper(),
        quote(TOKEN, safe=""),
        quote(TOKEN),
        "".join(f"%{byte:02X}" for byte in TOKEN.encode()),
        "".join(f"%{byte:02x}" if index % 2 else chr(byte) for index, byte in enumerate(TOKEN.encode())),
    ],
)
def test_every_spelling_of_the_token_is_taken_out(text):
    assert Redaction(TOKEN).clean(f"at https://hub/x?t={text}&u=1") == "at https://hub/x?t=<token>&u=1"


def test_passwords_in_addresses_and_control_characters_are_taken_out():
    assert Redaction(None).clean("http://me:secret@proxy:3128/ says\x1b[2J hi\r\n") == (
        r"http://proxy:3128/ says\x1b[2J hi\r\n"
    )


def test_other_text_stays():
    assert Redaction(TOKEN).clean("100 % of größe, a@b") == "100 % of größe, a@b"


def test_logs_are_cleaned_inside_and_only_there(caplog):
    logger = logging.getLogger("httpcore.made.by.this.test")
    with caplog.at_level(logging.DEBUG):
        with Redaction(TOKEN).of_logs():
            logger.debug("header %s", TOKEN)
        logger.debug("and %s", "then")
    assert [record.getMessage() for record in caplog.records] == ["header <token>", "and then"]
    assert not logger.filters
