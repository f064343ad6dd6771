"""What every command does beside its work: start-up, signals, parser, exit codes."""
