"""The few faster code paths, behind one door: models use `nn.Linear`, `nn.Conv3d` and the attention interface."""
