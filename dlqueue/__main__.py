"""`python -m dlqueue` is the program `dlqueue`."""

from dlqueue.cli.main import main

if __name__ == "__main__":
    main()
