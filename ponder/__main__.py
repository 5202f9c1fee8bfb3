"""`python -m ponder` is the `ponder` command."""

from app.cli.__main__ import main

if __name__ == "__main__":
    main()
