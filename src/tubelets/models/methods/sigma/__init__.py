"""SIGMA: Sinkhorn-guided masked video modelling."""
