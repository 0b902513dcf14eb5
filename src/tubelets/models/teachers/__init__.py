"""Frozen models by reference."""
