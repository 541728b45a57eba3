"""The `argus` command, a file for each subcommand."""
