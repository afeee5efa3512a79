"""Checks: of a machine, of files and folders that isc-fast wrote, of what is handed in to the challenge."""
