"""Object stores and web servers: objects are listed, read and created there, with retries. What they hold is others' matter."""
