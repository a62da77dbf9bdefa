"""The process tier: sandboxed commands, and frozen subjects whose calls are timed from outside."""
