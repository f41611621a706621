"""The WSGI entry: `app` for any WSGI server. `python app.py` does what `chalk-flask serve` does."""

from chalk_flask import create_app

if __name__ == "__main__":
    from chalk_flask.cli import main

    main(["serve"])
app = create_app()
