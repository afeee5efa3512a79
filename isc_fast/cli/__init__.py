"""The command line: flags, and the functions they call."""
