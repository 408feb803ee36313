"""Migrations (Alembic), one file a step, never edited once released."""
