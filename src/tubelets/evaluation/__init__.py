"""Evaluation of models and their features: metrics, multi-view testing, frozen evaluation."""
