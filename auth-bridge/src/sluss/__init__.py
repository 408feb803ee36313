"""Sluss: lets into a meeting only people who have proved who they are, twice."""

__version__ = "0.1.0"
