"""Entry point of `python -m chalk_flask`, which is the command `chalk-flask`."""

from chalk_flask.cli import main

main(prog_name="chalk-flask")
