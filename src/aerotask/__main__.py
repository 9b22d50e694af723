"""`python -m aerotask` is the command `aerotask`."""

from aerotask.cli import main

main()
