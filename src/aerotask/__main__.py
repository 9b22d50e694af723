"""Entry point of `python -m aerotask`."""

from aerotask.cli import main

main()
