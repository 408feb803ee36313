"""Conversions every repository needs."""

from datetime import UTC, datetime


def seconds(at: datetime) -> int:
    """Unix seconds of an aware datetime."""
    return int(at.timestamp())


def instant(value: int) -> datetime:
    """Aware UTC datetime of Unix seconds."""
    return datetime.fromtimestamp(value, UTC)


def instant_or_none(value: int | None) -> datetime | None:
    """The same, where there may be none."""
    return None if value is None else instant(value)
