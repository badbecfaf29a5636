"""``python -m hardtune``: see what a sweep would do, and how far to trust its scores."""

from hardtune.commands import main

if __name__ == "__main__":
    main()
