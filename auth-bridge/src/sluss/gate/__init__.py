"""The gate's Python side: the XMPP component of docs/gate-protocol.md."""

from sluss.gate.component import Gate, Rules

__all__ = ["Gate", "Rules"]
