"""The SEVERE benchmark."""
