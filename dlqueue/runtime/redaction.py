"""Leaving secrets out of what people read."""

from __future__ import annotations

import re

HIDDEN = "***"

# Everything between "://" and the last "@" of the authority: a password may itself hold an unescaped "@".
_USERINFO = re.compile(r"://[^\s/?#]*@")


def hide_userinfo(text: str) -> str:
    """The text with user name and password of every URL in it replaced by ``***``."""
    return _USERINFO.sub(f"://{HIDDEN}@", text) if "@" in text else text
