"""A pod of deploy/kubernetes as processes of this machine: its variables, secrets, volumes and user, and its read-only root file system."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.rendered import container_of, pod_of
from tests.tools import ROOT

BIN = Path(sys.executable).parent
OF_IMAGE = dict(
    re.findall(r"\b(PONDER_\w+|\w+_DIR|\w+_HOME|\w+_PATH|\w+_ROOT)=(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
)
"""The variables of the image."""


def can_run_pods() -> bool:
    """Whether this process may give others a view of the file system of their own."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))):
        return False
    command = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt && mkdir /mnt/1 /mnt/2 && mount -t overlay overlay"]
    command[-1] += " -o lowerdir=/tmp,upperdir=/mnt/1,workdir=/mnt/2 /tmp"
    return subprocess.run(command, capture_output=True).returncode == 0


class Pod:
    """The only container of a workload.

    Args:
        workload: a Deployment or StatefulSet.
        config: the data of its config map.
        secret: the data of its secret.
        address: of the loopback network, which the server listens on.
        hosts: addresses by the names that the cluster would know.
        claims: folders of claims that outlive the pod, or that others mount too, by their names.
        folder: for its log, and for its volumes.

    """

    def __init__(
        self, workload: dict[str, Any], config: Mapping[str, str], secret: Mapping[str, str], *, address: str, hosts: Mapping[str, str],
        claims: Mapping[str, Path], folder: Path,
    ) -> None:  # fmt: skip
        self.url, self.log = f"http://{address}:8000", folder / "log"
        container, security = container_of(workload), pod_of(workload)["securityContext"]
        user, group = str(security["runAsUser"]), str(security["runAsGroup"])
        named = {"POD_IP": address}  # what the cluster fills in
        own = {one["name"]: one.get("value", "").replace("$(POD_IP)", address) for one in container.get("env", ())} | named
        environment = {
            **OF_IMAGE,
            "HOME": "/home/ponder",
            "PATH": f"{BIN}:/usr/bin:/bin",
            **config,
            **own,
            "PONDER_HOST": address,
        }
        lines = [
            "set -eu",
            "mount --make-rprivate /",
            "mount -t tmpfs -o mode=755 tmpfs /home",
            "mount -t tmpfs -o mode=755 tmpfs /run",
            "mount -t tmpfs -o mode=755 tmpfs /srv",
            f"printf '%s\\n' {shlex.join(f'{ip} {name}' for name, ip in hosts.items())} > /run/hosts",
            "mount --bind /run/hosts /etc/hosts",
        ]
        volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
        for mount in container["volumeMounts"]:
            path = mount["mountPath"]
            if path != "/tmp":
                source = self._volume(
                    volumes.get(mount["name"], {}), mount["name"], secret, claims, folder, (int(user), int(group))
                )
                lines += [f"mkdir -p {path}", f"mount --bind {source} {path}"]
                lines += [f"mount -o remount,ro,bind {path}"] * mount.get("readOnly", False)
        # What is written there goes elsewhere: the checkout may be in /tmp. Python may be in /root, into which nobody else may look.
        lines += [*_copied("/tmp"), *_copied("/root"), "chmod 755 /root"]
        command = [str(BIN / "ponder"), *container.get("command", ["ponder", "serve"])[1:]]
        drop = f"setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
        lines += [
            "mount -o remount,ro /home",
            "mount -o remount,ro,bind /",
            "cd /home/ponder",
            f"exec {drop} {shlex.join(command)}",
        ]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", "\n".join(lines)], env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    def _volume(
        self, volume: Mapping[str, Any], name: str, secret: Mapping[str, str], claims: Mapping[str, Path], folder: Path,
        owner: tuple[int, int],
    ) -> Path:  # fmt: skip
        """Return the folder of a volume."""
        path = claims.get(volume.get("persistentVolumeClaim", {}).get("claimName", name), folder / "volumes" / name)
        path.mkdir(parents=True, exist_ok=True)
        for item in volume.get("secret", {}).get("items", ()):
            (path / item["path"]).write_text(secret[item["key"]], encoding="ascii")
        for one in (path, *path.rglob("*")):
            os.chown(one, *owner)
        return path

    def written(self) -> set[str]:
        """Return the files that it has written below /tmp, and has not removed."""
        folder = Path(f"/proc/{self.process.pid}/root/srv/tmp")
        return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}

    def stop(self) -> int:
        """End it as the cluster does after its preStop; return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


def _copied(path: str) -> list[str]:
    """Return the commands after which what is written below `path` goes to a folder of its own."""
    upper = f"/srv{path}"
    return [
        f"mkdir -p {upper} {upper}-work",
        f"chmod {Path(path).stat().st_mode & 0o7777:o} {upper}",
        f"mount -t overlay overlay -o lowerdir={path},upperdir={upper},workdir={upper}-work {path}",
    ]
