"""The board's commands; each module imports what it needs only when its command runs."""
