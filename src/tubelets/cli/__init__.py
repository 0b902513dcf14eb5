"""The command `tubelets` and its subcommands."""
