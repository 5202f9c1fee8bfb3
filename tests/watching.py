"""Debian's Prometheus, with the configuration that is deployed, watching a server of a test."""

import math
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.tools import ROOT, tool

STEP_S = 2
WINDOW = "20s"


@dataclass(frozen=True)
class Watched:
    """A server that was under load, and the Prometheus that watched it."""

    prometheus: httpx.Client
    page: str
    start: float
    end: float

    def ask(self, path: str, **parameters: Any) -> Any:
        """What Prometheus' API answers."""
        reply = self.prometheus.get(f"/api/v1/{path}", params=parameters).json()
        assert reply["status"] == "success", reply
        return reply["data"]

    def values(self, expr: str) -> list[float]:
        """All that a query gives over the time of the load; without those that are no numbers, as where nothing is divided by nothing."""
        series = self.ask("query_range", query=expr, start=self.start, end=self.end, step=STEP_S)["result"]
        return [value for one in series for _, text in one["values"] if math.isfinite(value := float(text))]


class Prometheus:
    """A running one: only who is scraped how often, and with which key, is the test's. Entering it gives its URL."""

    def __init__(self, folder: Path, target: int, key: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{address}"
        source = ROOT / "deploy" / "prometheus"
        config = yaml.safe_load((source / "prometheus.yml").read_text())
        config["global"] = {
            "scrape_interval": f"{STEP_S}s",
            "scrape_timeout": f"{STEP_S}s",
            "evaluation_interval": f"{STEP_S}s",
        }
        config["rule_files"] = [str(source / name) for name in config["rule_files"]]
        (scraped,) = config["scrape_configs"]
        del scraped["dns_sd_configs"]
        scraped["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
        scraped["authorization"]["credentials_file"] = str(folder / "key")
        (folder / "key").write_text(key)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.log = folder / "prometheus.log"
        self.command = [
            tool("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}", "--enable-feature=exemplar-storage",
        ]  # fmt: skip

    def __enter__(self) -> str:
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(self.command, stdout=output, stderr=subprocess.STDOUT)
        for _ in range(150):
            try:
                if httpx.get(f"{self.url}/-/ready").status_code == 200:
                    return self.url
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        self.__exit__()
        pytest.fail(f"prometheus did not start:\n{self.log.read_text()[-4000:]}")

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
