"""Runs the Cloudflare emulator: `python3 -m lab.emulators.cloudflare --help`."""

from __future__ import annotations

from lab.emulators import server
from lab.emulators.cloudflare import create_app


def main() -> None:
    parser = server.options("cloudflare", __doc__ or "")
    parser.add_argument("--zone", action="append", default=[], help="a zone that shall exist; repeatable")
    parser.add_argument(
        "--rate-limit",
        type=int,
        metavar="N",
        help="calls per token in 5 minutes; Cloudflare: 1200 (default: none)",
    )
    arguments = parser.parse_args()
    app = create_app(
        tokens=server.read_tokens(arguments.token_file),
        zones=arguments.zone,
        state=arguments.state,
        limit=arguments.rate_limit,
        contract=arguments.contract,
        latency=arguments.latency / 1000,
    )
    server.serve(app, arguments)


if __name__ == "__main__":
    main()
