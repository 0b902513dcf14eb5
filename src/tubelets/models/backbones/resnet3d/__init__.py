"""R(2+1)D-18, R3D-18 and their relatives."""
