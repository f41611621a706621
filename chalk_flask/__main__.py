"""`python -m chalk_flask` is `chalk-flask`."""

from chalk_flask.cli import main

main(prog_name="chalk-flask")
