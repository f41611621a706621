"""Compared server: users by Flask, SQLAlchemy and marshmallow, in the way that their documentation recommends.

`fill RECORDS FILE` stores the users of a JSON file. `serve FILE PORT TOKEN` serves them. The program runs in an
environment of its own, without the packages of the service.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import waitress
from flask import Flask, Response, abort, jsonify, request
from flask_sqlalchemy import SQLAlchemy
from marshmallow import Schema, fields
from sqlalchemy.orm import selectinload

db = SQLAlchemy()

user_orgs = db.Table(
    "user_orgs",
    db.Column("user_id", db.ForeignKey("user.id"), primary_key=True),
    db.Column("org_id", db.ForeignKey("org.id"), primary_key=True),
)
user_agents = db.Table(
    "user_agents",
    db.Column("user_id", db.ForeignKey("user.id"), primary_key=True),
    db.Column("agent_id", db.ForeignKey("user.id"), primary_key=True),
)


class Org(db.Model):
    """Row of an org; only its id is shown."""

    id = db.Column(db.String, primary_key=True)


class UserId(db.Model):
    """Identifier of a user in another system."""

    id = db.Column(db.Integer, primary_key=True)
    user_id = db.Column(db.ForeignKey("user.id"), index=True)
    type = db.Column(db.String)
    identifier = db.Column(db.String)


class User(db.Model):
    """Row of a user."""

    id = db.Column(db.String, primary_key=True)
    status = db.Column(db.String)
    dateLastModified = db.Column(db.String)
    enabledUser = db.Column(db.String)
    role = db.Column(db.String, index=True)
    username = db.Column(db.String)
    givenName = db.Column(db.String)
    familyName = db.Column(db.String)
    middleName = db.Column(db.String)
    identifier = db.Column(db.String)
    email = db.Column(db.String)
    sms = db.Column(db.String)
    phone = db.Column(db.String)
    grades = db.Column(db.JSON)
    userIds = db.relationship(UserId)
    orgs = db.relationship(Org, secondary=user_orgs)
    agents = db.relationship(
        "User",
        secondary=user_agents,
        primaryjoin=id == user_agents.c.user_id,
        secondaryjoin=id == user_agents.c.agent_id,
    )


class UserIdSchema(Schema):
    """Representation of an identifier."""

    type = fields.String()
    identifier = fields.String()


class ReferenceSchema(Schema):
    """Representation of a reference to another record."""

    href = fields.Function(lambda row: f"{request.url_root}{row.__tablename__}s/{row.id}")
    sourcedId = fields.String(attribute="id")
    type = fields.Function(lambda row: row.__tablename__)


class UserSchema(Schema):
    """Representation of a user."""

    sourcedId = fields.String(attribute="id")
    status = fields.String()
    dateLastModified = fields.String()
    enabledUser = fields.String()
    orgs = fields.List(fields.Nested(ReferenceSchema))
    role = fields.String()
    username = fields.String()
    userIds = fields.List(fields.Nested(UserIdSchema))
    givenName = fields.String()
    familyName = fields.String()
    middleName = fields.String()
    identifier = fields.String()
    email = fields.String()
    sms = fields.String()
    phone = fields.String()
    agents = fields.List(fields.Nested(ReferenceSchema))
    grades = fields.List(fields.String())


user_schema = UserSchema()
users_schema = UserSchema(many=True)


def create_app(file: Path, token: str = "") -> Flask:
    """Return the application for a SQLite file. Clients send the token."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{file.absolute()}"
    db.init_app(app)
    related = (selectinload(User.orgs), selectinload(User.userIds), selectinload(User.agents))

    @app.before_request
    def check_token() -> None:
        if request.headers.get("Authorization") != f"Bearer {token}":
            abort(401)

    @app.get("/users")
    def list_users() -> Response:
        query = db.select(User).order_by(User.id)
        if role := request.args.get("role"):
            query = query.where(User.role == role)
        total = db.session.scalar(db.select(db.func.count()).select_from(query.subquery()))
        limit, offset = request.args.get("limit", 100, int), request.args.get("offset", 0, int)
        users = db.session.scalars(query.options(*related).limit(limit).offset(offset))
        response = jsonify(users=users_schema.dump(users))
        response.headers["X-Total-Count"] = str(total)
        return response

    @app.get("/users/<key>")
    def get_user(key: str) -> Response:
        return jsonify(user=user_schema.dump(db.get_or_404(User, key, options=related)))

    return app


def fill(app: Flask, records: list[dict[str, object]]) -> None:
    """Store the records of users, whose references are known."""
    columns = set(User.__table__.columns.keys()) - {"id"}
    links: dict[str, list[dict[str, object]]] = {"orgs": [], "agents": [], "userIds": []}
    for record in records:
        for name, values in links.items():
            values += [{"user": record["sourcedId"], **value} for value in record.get(name, ())]  # type: ignore[attr-defined]
    rows = [{"id": record["sourcedId"], **{name: record.get(name) for name in columns}} for record in records]
    pairs = {
        name: [{"user_id": link["user"], f"{name[:-1]}_id": link["sourcedId"]} for link in links[name]]
        for name in ("orgs", "agents")
    }
    identifiers = [
        {"user_id": link["user"], "type": link["type"], "identifier": link["identifier"]} for link in links["userIds"]
    ]
    with app.app_context():
        db.create_all()
        db.session.execute(db.insert(Org), [{"id": key} for key in {pair["org_id"] for pair in pairs["orgs"]}])
        db.session.execute(db.insert(User), rows)
        db.session.execute(db.insert(UserId), identifiers)
        db.session.execute(db.insert(user_orgs), pairs["orgs"])
        db.session.execute(db.insert(user_agents), pairs["agents"])
        db.session.commit()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fill", records, file]:
            fill(create_app(Path(file)), json.loads(Path(records).read_text(encoding="utf-8")))
        case ["serve", file, port, token]:
            logging.getLogger("waitress.queue").setLevel(logging.ERROR)
            waitress.serve(create_app(Path(file), token), host="127.0.0.1", port=int(port), threads=4)
        case _:
            sys.exit(__doc__)
