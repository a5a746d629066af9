"""`python -m upkept.cli`, as the supervisor starts its children."""

from upkept.cli import main

if __name__ == "__main__":
    main()
