"""What names of queues, downloaders, namespaces and schedules are made of: some of them become folder names."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NAME_RULE = "1 to 64 letters, digits, dots, - and _, beginning with a letter or digit"
"""`NAME` in words."""
