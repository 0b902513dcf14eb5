"""Measuring what models and their features are worth: metrics, multi-view tests, frozen evaluation."""
