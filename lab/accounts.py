"""The lab's own accounts on its instance: made by tootctl on exec, logged in as everybody logs in."""

from __future__ import annotations

import re
import subprocess

from lab import secret
from lab.config import Lab
from lab.engine import LabError, connect
from lab.instance import Application, Instance, Refused
from lab.parts import DOMAIN
from lab.runtime import Runtime

ADMIN = "admin"
"""User name of the account with the role Owner; its address is ADMIN@DOMAIN."""


def log_in(lab: Lab, instance: Instance, name: str = ADMIN) -> str:
    """An access token of the account, which is made here the first time.

    Password and application are kept in the lab's secrets. Raises LabError where the account cannot be made.
    """
    email, known = f"{name}@{DOMAIN}", secret.load(lab.state)
    if "oauth_client_id" in known:
        instance.application = Application(known["oauth_client_id"], known["oauth_client_secret"])
    if password := known.get(f"{name}_password"):
        try:
            return _log_in(lab, instance, email, password)
        except Refused:
            instance.application = None
    password = _password(lab, name, email)
    secret.keep(lab.state, f"{name}_password", password)
    try:
        return _log_in(lab, instance, email, password)
    except Refused as error:
        raise LabError(f"{name} cannot log in: {error}") from error


def _log_in(lab: Lab, instance: Instance, email: str, password: str) -> str:
    token = instance.log_in(email, password)
    if instance.application:
        secret.keep(lab.state, "oauth_client_id", instance.application.client_id)
        secret.keep(lab.state, "oauth_client_secret", instance.application.client_secret)
    return token


def _password(lab: Lab, name: str, email: str) -> str:
    """A new password, of a new account where there is none."""
    role = ("--role", "Owner") if name == ADMIN else ()
    made = _tootctl(lab, "create", name, "--email", email, "--confirmed", "--approve", *role)
    if "password" not in made:  # it exists
        made = _tootctl(lab, "modify", name, "--reset-password")
    found = re.search(r"password: (\S+)", made)
    if not found:
        raise LabError(f"tootctl did not make the account {name!r}: {made.strip()}")
    return found[1]


def _tootctl(lab: Lab, *arguments: str) -> str:
    """What `tootctl accounts ARGUMENTS` on exec says."""
    container = Runtime(connect(), lab).resolve("vmst-exec")
    command = ["docker", "exec", container.name, "tootctl", "accounts", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout + done.stderr
