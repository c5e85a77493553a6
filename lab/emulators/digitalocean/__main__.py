"""Runs the DigitalOcean emulator: `python3 -m lab.emulators.digitalocean --help`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.config import Lab
from lab.emulators import server
from lab.emulators.digitalocean import Limits, create_app
from lab.emulators.memory_cloud import MemoryCloud

if TYPE_CHECKING:
    from lab.cloud import Cloud


def main() -> None:
    parser = server.options("digitalocean", __doc__ or "")
    parser.add_argument(
        "--cloud", choices=("docker", "memory"), default="docker", help="what runs the droplets"
    )
    parser.add_argument("--action-seconds", type=float, default=0.5, help="least time an action takes")
    parser.add_argument(
        "--watch-seconds", type=float, default=5, help="how often to ask the cloud whether droplets run"
    )
    parser.add_argument(
        "--rate-limit",
        metavar="MINUTE/HOUR",
        help="calls per token; DigitalOcean allows 250/5000 (default: no limit)",
    )
    parser.add_argument(
        "--synthetic-droplets", type=int, default=0, metavar="N", help="droplets that only the API knows"
    )
    parser.add_argument("--instance", default="vmst", help="tag prefix of the synthetic droplets")
    arguments = parser.parse_args()
    limits = Limits()
    if arguments.rate_limit:
        try:
            limits = Limits(*(int(number) for number in arguments.rate_limit.split("/", 1)))
        except ValueError:
            parser.error(f"--rate-limit {arguments.rate_limit}: two numbers are needed, as in 250/5000")
    lab = Lab.load()
    cloud: Cloud
    if arguments.cloud == "docker":
        # only here: the memory cloud needs no engine
        from lab.docker_cloud import DockerCloud  # noqa: PLC0415

        if arguments.state is None:
            parser.error("--cloud docker needs --state: the clusters' passwords are kept there")
        cloud = DockerCloud.from_environment(arguments.state)
    else:
        cloud = MemoryCloud(str(lab.public), str(lab.private))
    app = create_app(
        cloud,
        tokens=server.read_tokens(arguments.token_file),
        state=arguments.state,
        action_seconds=arguments.action_seconds,
        limits=limits,
        contract=arguments.contract,
        latency=arguments.latency / 1000,
        watch_seconds=arguments.watch_seconds if arguments.cloud == "docker" else 0,
        public=lab.public,
        private=lab.private,
        synthetic_droplets=arguments.synthetic_droplets,
        instance=arguments.instance,
    )
    server.serve(app, arguments)


if __name__ == "__main__":
    main()
