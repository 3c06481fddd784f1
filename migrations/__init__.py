"""Alembic migrations of Tailor's schema."""
