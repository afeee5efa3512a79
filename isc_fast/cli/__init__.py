"""The command line: `main` reads it, and each verb has a file of its own."""
