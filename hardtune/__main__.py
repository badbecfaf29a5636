"""``python -m hardtune``: inspect a sweep before and after it runs."""

from hardtune.commands import main

if __name__ == "__main__":
    main()
