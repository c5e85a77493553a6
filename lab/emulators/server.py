"""Runs an emulator: the options they share, and uvicorn with TLS."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from lab.emulators.common import Token, parse_tokens


def options(name: str, description: str) -> argparse.ArgumentParser:
    """The parser with the options of every emulator."""
    parser = argparse.ArgumentParser(prog=f"python3 -m lab.emulators.{name}", description=description)
    parser.add_argument("--listen", default="127.0.0.1:8443", metavar="ADDRESS:PORT")
    parser.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="certificate (PEM); without it: plain HTTP"
    )
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
    parser.add_argument("--state", type=Path, metavar="DIRECTORY", help="where the state survives a restart")
    parser.add_argument(
        "--token-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="the tokens that are accepted, one a line: TOKEN [SCOPE,SCOPE...] (none listed: all)",
    )
    parser.add_argument(
        "--contract",
        choices=("off", "log", "raise"),
        default="log",
        help="check every exchange against the vendor's document where $VENDOR_OPENAPI has it: "
        "log violations at /_lab/violations, or answer 500 instead (default: %(default)s)",
    )
    parser.add_argument("--latency", type=float, default=0, metavar="MS", help="delay every answer")
    return parser


def read_tokens(path: Path) -> dict[str, Token]:
    """The tokens in a file; ends the program when there are none."""
    try:
        tokens = parse_tokens(path.read_text())
    except OSError as error:
        sys.exit(f"token file {path}: {error.strerror}")
    if not tokens:
        sys.exit(f"token file {path} holds no token: nobody could call this API")
    return tokens


def serve(app: Starlette, arguments: argparse.Namespace) -> None:
    """Serve until a signal ends it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    host, _, port = arguments.listen.rpartition(":")
    uvicorn.run(
        app,
        host=host.strip("[]"),
        port=int(port),
        ssl_certfile=arguments.tls_cert,
        ssl_keyfile=arguments.tls_key,
        log_level="info",
        access_log=False,
        timeout_graceful_shutdown=3,
    )
