"""The only reader of the environment.

Each field of `Settings` is a variable `PONDER_…` and an option of `ponder serve`. A wrong value stops the start.

engine.py   base models, their engines and replicas     server.py   address, keys, limits
service.py  adapters, policies, shared state, logs      values.py   the forms of values
whole.py    all of them together                        reading.py  from where they come
"""

from app.settings.engine import DEFAULT_MODEL
from app.settings.reading import read_options, read_replica_settings, read_settings
from app.settings.server import AddressSettings
from app.settings.whole import ENV_PREFIX, OTHER_MODELS, ClientSettings, ReplicaSettings, Settings

__all__ = [
    "DEFAULT_MODEL",
    "ENV_PREFIX",
    "OTHER_MODELS",
    "AddressSettings",
    "ClientSettings",
    "ReplicaSettings",
    "Settings",
    "read_options",
    "read_replica_settings",
    "read_settings",
]
