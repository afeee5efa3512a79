"""What this machine has: cores, GPUs, versions of libraries; and how something is tried out in a process of its own."""
