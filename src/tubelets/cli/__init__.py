"""The command `tubelets`: verbs, without logic of their own."""
