"""Kinds of proof, one file each. They know nothing of meetings or pages."""
