"""Keys: the one that seals fields, and the ones that sign tickets (next → active → retired → gone)."""
