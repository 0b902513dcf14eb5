"""Samples in a reproducible order, decoded, batched, and resumed exactly."""
