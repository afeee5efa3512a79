"""Whole runs made of the other rooms: the challenge, the demo, tuning, the doctor."""
