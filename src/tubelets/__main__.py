"""`python -m tubelets`: the command `tubelets`."""

from tubelets.cli.main import main

if __name__ == "__main__":
    main()
