"""Durations, sizes and rates as people write them: ``2h30m``, ``2MiB``, ``10/s``. Standard library only."""

from __future__ import annotations

import re

_NUMBER = r"\d{1,19}(?:\.\d{1,19})?"
_DURATION = re.compile("".join(rf"(?:({_NUMBER}) ?{unit} ?)?" for unit in ("d", "h", "m(?!s)", "s", "ms")))
_SECONDS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_LONGEST = 36500 * 86400.0  # a hundred years: beyond it date arithmetic overflows, and it is a slip in any case

_SIZE = re.compile(rf"({_NUMBER}) ?([kmgtp]i?)?b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_LARGEST = 2**63 - 1  # what the database can hold


_RATE = re.compile(rf"({_NUMBER}) ?/ ?([smhd])")
_PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MOST_STARTS = 100_000
"""In one period: each of them is remembered for as long."""


def parse_duration(text: str | float) -> float:
    """Seconds from ``"2h30m"``, ``"500ms"``, ``"7d"``, ``"90"`` or a number of seconds.

    Units are d, h, m, s and ms, in this order, each at most once. Raises `ValueError` with a message for a person.
    """
    if isinstance(text, bool) or not isinstance(text, (int, float, str)):
        raise ValueError('not a duration: a number of seconds or text such as "90s" or "2h30m"')  # noqa: TRY004 - one error type
    seconds = _duration_of(text) if isinstance(text, str) else text
    if not (0 <= seconds <= _LONGEST):  # also refuses NaN
        raise ValueError("a duration must be between 0 and 36500d")
    return float(seconds)


def parse_size(text: str | int) -> int:
    """Bytes from ``"2MiB"``, ``"500k"``, ``"1.5 GB"``, ``"4096"`` or a number of bytes.

    k, M, G, T, P are powers of 1000; Ki, Mi, Gi, Ti, Pi powers of 1024; a B may follow; upper and lower case are one.
    Raises `ValueError` with a message for a person.
    """
    if isinstance(text, bool) or not isinstance(text, (int, str)):
        raise ValueError('not a size: a whole number of bytes or text such as "500k" or "2MiB"')  # noqa: TRY004 - one error type
    size = text if isinstance(text, int) else _size_of(text)
    if not 0 <= size <= _LARGEST:
        raise ValueError("a size must be between 0 and 2^63 − 1 bytes")
    return size


def parse_rate(text: str) -> tuple[int, float]:
    """``"10/s"``, ``"100/m"``, ``"1000/h"``, ``"0.5/s"`` as so many starts in so many seconds: ``(10, 1.0)``,
    ``(1, 2.0)`` for the last. Raises `ValueError` with a message for a person."""
    if not isinstance(text, str):
        raise ValueError('not a rate: text such as "10/s", "100/m" or "1000/h"')  # noqa: TRY004 - one error type
    found = _RATE.fullmatch(text.strip()) if text.isascii() else None
    if not found:
        raise ValueError(f"not a rate: {_quoted(text)}; write for example 10/s, 100/m, 1000/h or 0.5/s")
    number, period = float(found[1]), _PERIODS[found[2]]
    if not 0.001 <= number <= MOST_STARTS:
        raise ValueError(f"a rate must be between 0.001 and {MOST_STARTS} in a period")
    # What is left of a whole number makes the period longer: 2.5 in a second are 2 in 0.8 s.
    count = max(int(number), 1)
    return count, period * count / number


def parse_size_range(text: str | int) -> tuple[int, int | None]:
    """The smallest and the largest size (None = no limit) that are meant by ``">1GiB"``, ``">=1GiB"`` or just
    ``"1GiB"``, ``"<500M"``, ``"<=500M"``, ``"1GiB..4GiB"``. Raises `ValueError` with a message for a person."""
    if not isinstance(text, str):
        return parse_size(text), None
    low, dots, high = text.partition("..")
    if dots:
        limits = parse_size(low.strip()), parse_size(high.strip())
        if limits[0] > limits[1]:
            raise ValueError("the smaller size comes first")
        return limits
    sign = text[: len(text) - len(text.lstrip("<>="))]
    size = parse_size(text[len(sign) :].strip())
    match sign:
        case "" | ">=":
            return size, None
        case ">":
            return size + 1, None
        case "<=":
            return 0, size
        case "<" if size:
            return 0, size - 1
    raise ValueError('not a range of sizes: write for example ">=1GiB", "<500M" or "1GiB..4GiB"')


def format_duration(seconds: float) -> str:
    """A finite duration for a person, its two largest units: ``3d4h``, ``2h30m``, ``1m30s``, ``1.5s``, ``500ms``."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if round(seconds, 3) < 1:
        milliseconds = round(seconds * 1000)
        return f"{milliseconds}ms" if milliseconds else "0s"
    if round(seconds, 1) < 60:
        return f"{round(seconds, 1):g}s"
    rest = round(seconds)
    parts: list[tuple[int, str]] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append((count, unit))
    return "".join(f"{count}{unit}" for count, unit in parts[:2] if count)


def format_size(size: float) -> str:
    """Bytes for a person, in powers of 1024: ``0 B``, ``1.5 KiB``, ``2.0 MiB``. Speeds are written by adding ``/s``."""
    if round(abs(size)) < 1024:
        return f"{round(size)} B"
    units = ("KiB", "MiB", "GiB", "TiB", "PiB")
    value, unit = size / 1024, 0
    while round(abs(value), 1) >= 1024 and unit < len(units) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {units[unit]}"


def _duration_of(text: str) -> float:
    stripped = text.strip()
    if re.fullmatch(_NUMBER, stripped, re.ASCII):
        return float(stripped)
    found = _DURATION.fullmatch(stripped) if stripped.isascii() else None
    if not found or not stripped:
        raise ValueError(f"not a duration: {_quoted(text)}; write for example 500ms, 90s, 2h30m or 7d")
    return sum(float(part) * length for part, length in zip(found.groups(), _SECONDS, strict=True) if part)


def _size_of(text: str) -> int:
    stripped = text.strip()
    found = _SIZE.fullmatch(stripped) if stripped.isascii() else None
    if not found:
        raise ValueError(f"not a size: {_quoted(text)}; write for example 500k, 2MiB or 1.5G")
    number, prefix = found[1], (found[2] or "").lower()
    factor: int = (1024 if prefix.endswith("i") else 1000) ** _POWERS[prefix.removesuffix("i")]
    # Whole numbers stay whole numbers: a float would lose the last bytes of a large size.
    return int(number) * factor if "." not in number else round(float(number) * factor)


def _quoted(text: str) -> str:
    shown = text if len(text) <= 40 else text[:39] + "…"
    return ascii(shown) if not shown.isprintable() else f'"{shown}"'
