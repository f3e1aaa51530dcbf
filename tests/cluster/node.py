"""First process of the cluster's namespaces: sets up the node, then runs control plane, kubelet and service proxy.

Started by cluster.py as `python -m tests.cluster.node STATE`. When it ends, however it ends, the kernel ends all
processes of its process namespace, and its network and mounts go with them.
"""

import json
import signal
import sys
import threading
from pathlib import Path

from tests.cluster import network
from tests.cluster.control_plane import ControlPlane, StartFailed
from tests.cluster.images import known_images
from tests.cluster.kubelet import Kubelet
from tests.cluster.service_proxy import ServiceProxy

IMAGES_FILE = "images.json"
READY_FILE = "ready"
FAILED_FILE = "failed"
AWAY_FILE = "api-server-away"
"""While it is there, the API server is not."""
_CHECK_SECONDS = 0.1


def main(state: Path) -> int:
    """Run until SIGTERM or SIGINT, or until a control plane process ends."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    plane = ControlPlane(state)
    try:
        _mount_run()
        network.set_up_node()
        api = plane.start()
        images = known_images(json.loads((state / IMAGES_FILE).read_text()))
        Kubelet(api, state / "pods", images).start()
        ServiceProxy(api).start()
        (state / READY_FILE).touch()
        while not stopping.wait(_CHECK_SECONDS):
            plane.keep_api_server(not (state / AWAY_FILE).exists())
            plane.check()
    except (StartFailed, network.NetworkError, OSError) as problem:
        (state / FAILED_FILE).write_text(str(problem))
        return 1
    return 0


def _mount_run() -> None:
    """A /run of our own, where `ip netns` keeps its names."""
    network.run(["mount", "-t", "tmpfs", "tmpfs", "/run"])
    Path("/run/netns").mkdir()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
