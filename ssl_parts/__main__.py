"""`python -m ssl_parts COMMAND ...`: the same as `ssl-parts COMMAND ...`."""

from ssl_parts.commands.main import main

if __name__ == "__main__":
    main()
