"""Spatio-temporal action detection: the metric of boxes in frames."""
