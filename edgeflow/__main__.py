"""``python -m edgeflow`` opens the same front door as the ``edgeflow`` command."""

from edgeflow.cli import main

if __name__ == "__main__":
    main()
