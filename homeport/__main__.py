"""`python -m homeport`: the command line, where the program itself is not on the path."""

from homeport.interfaces.cli.main import main

if __name__ == "__main__":
    main()
