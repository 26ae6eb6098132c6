"""`adsum health`: asks a running service whether it is ready, for images that have no curl."""

import http.client
import json
from collections.abc import Mapping
from typing import Any

import click

from adsum.app.values import Address
from adsum.cli.options import client_settings, config_option, examples, json_option, reachable
from adsum.cli.output import say, say_json

TIMEOUT_S = 5
MAX_BODY_BYTES = 1_048_576


@click.command(
    epilog=examples("adsum health", "adsum health --http 10.0.0.1:10111", "adsum health --json | jq .checks")
)
@click.option("--http", metavar="HOST:PORT", help="The service's HTTP port (or ADSUM_HTTP).")
@json_option
@config_option
def health(http: str | None, config: str | None, *, as_json: bool) -> None:
    """Say whether the service is ready, and if not, which checks fail.

    The exit code is 0 if it is ready, otherwise 1.
    """
    ready = _ask(reachable(client_settings(config).http, http, "--http"))
    if as_json:
        say_json(**ready)
    else:
        _tell(ready["checks"])
    if not ready["ready"]:
        raise click.exceptions.Exit(1)


def _tell(checks: Mapping[str, Mapping[str, Any]]) -> None:
    failing = {name: check for name, check in checks.items() if not check["ok"]}
    for name, check in failing.items():
        say(f"{name}: {check['text']}")
    if not failing:
        say("ready")


def _ask(address: Address) -> dict[str, Any]:
    """What `/readyz` says."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        found: dict[str, Any] = json.loads(connection.getresponse().read(MAX_BODY_BYTES))
        if isinstance(found["ready"], bool) and isinstance(found["checks"], dict):
            return found
    except OSError as error:
        raise click.ClickException(f"{address} cannot be asked: {error.strerror or error}") from None
    except (http.client.HTTPException, ValueError, LookupError, TypeError):
        pass
    finally:
        connection.close()
    raise click.ClickException(f"{address} is not Adsum's HTTP port: its /readyz is something else")
