"""Kinds of proof, one file each. They know nothing of meetings or pages."""

from sluss.domain.assurance import Method

PARTICIPANT_METHODS = frozenset({Method.SMS, Method.PASSKEY, Method.TOTP})
"""What a participant can verify with on every installation. `Settings.methods` adds what is set up."""
