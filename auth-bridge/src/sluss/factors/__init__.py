"""Kinds of proof, one file each. They know nothing of meetings or pages."""

from sluss.domain.assurance import Method

PARTICIPANT_METHODS = frozenset({Method.SMS})
"""What a participant can verify with whatever the settings are."""
